"""What the training tests share: the default policy, a scripted endpoint, a two-layer model.

The model is random, with the real tokenizer of the student: GUARD_TEST_MODEL names its folder, else
``models/smollm2-135m-instruct``. Where neither exists, the tests that need it are skipped.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from guard.policy.load import load_policy
from guard.policy.model import Policy
from tests.training.public_sets import write_sets
from training.recipe import Endpoint

ROOT = Path(__file__).parents[2]
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default policy."""
    return load_policy(ROOT / "specs" / "default")


@pytest.fixture(scope="session")
def public_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with small sets in the layout of the public ones."""
    return write_sets(tmp_path_factory.mktemp("sets"))


class ScriptedEndpoint:
    """An OpenAI-compatible endpoint on a real socket that answers by a function."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                status, reply = answer(body)
                data = json.dumps(reply).encode() if not isinstance(reply, bytes) else reply
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.settings = Endpoint(
            url=f"http://127.0.0.1:{self._server.server_port}/v1", model="scripted", retries=1, concurrency=4
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def scripted() -> Iterator[Callable[[Answer], ScriptedEndpoint]]:
    """Makes scripted endpoints, closed after the test."""
    made: list[ScriptedEndpoint] = []

    def make(answer: Answer) -> ScriptedEndpoint:
        made.append(ScriptedEndpoint(answer))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.close()


def choices(*texts: str, finish: str = "stop") -> dict[str, Any]:
    """A chat completion with these texts."""
    return {
        "choices": [
            {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            for n, text in enumerate(texts)
        ]
    }


def weighed(shares: dict[str, float]) -> dict[str, Any]:
    """A chat completion of one token with its likely alternatives."""
    reply = choices(max(shares, key=lambda token: shares[token]))
    top = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    reply["choices"][0]["logprobs"] = {"content": [{"token": "", "logprob": 0.0, "top_logprobs": top}]}
    return reply


@pytest.fixture(scope="session")
def tokenizer_folder() -> Path:
    """A folder with the student's tokenizer."""
    folder = Path(os.environ.get("GUARD_TEST_MODEL", ROOT / "models" / "smollm2-135m-instruct"))
    if not (folder / "tokenizer.json").exists():
        pytest.skip("no student tokenizer: set GUARD_TEST_MODEL to the folder of SmolLM2-135M-Instruct")
    return folder


@pytest.fixture(scope="session")
def tiny(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer model as a checkpoint folder."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

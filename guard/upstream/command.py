"""How each kind of engine is started: its command line and its environment.

Settings that were measured, on two CPU cores with the 135M-parameter model:

- The KV cache of transformers serve is given in blocks of 256 tokens, not as the share of the
  machine's memory that the flag ``--cb-max-memory-percent`` means: a share that is right on one
  machine is ten times too much on another. 128 blocks are four whole contexts of 8,192 tokens, or
  thirty requests of a thousand; the engine then stays under 2.5 GB.
- ``OMP_WAIT_POLICY=PASSIVE``: with the default, two busy threads spin at every barrier while the
  guard (or anything else) wants a core; 2 tokens a second became 26 on a loaded machine.
- Both engines are told not to talk to any model hub when the model is a local folder.

Whatever the operator adds comes last and wins.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guard.upstream.capabilities import CAPABILITIES, Capabilities, EngineKind

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine, with which model."""

    kind: EngineKind
    model: str
    """A checkpoint folder, or a hub name if the engine may download."""
    python: str = sys.executable
    """The interpreter that has the engine installed."""
    args: tuple[str, ...] = ()
    """Further arguments of the engine."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables."""
    gpu: bool | None = None
    """Whether there is an accelerator; left out, it is looked for."""

    @property
    def capabilities(self) -> Capabilities:
        """What this kind of engine does with a request."""
        return CAPABILITIES[self.kind]


def command(spec: EngineSpec, port: int) -> list[str]:
    """The engine's command line, listening on the loopback interface only."""
    gpu = has_gpu() if spec.gpu is None else spec.gpu
    where = ["--host", _HOST, "--port", str(port)]
    if spec.kind == "vllm":
        line = [spec.python, "-m", "vllm.entrypoints.openai.api_server", "--model", spec.model]
        line += [*where, "--enable-prompt-tokens-details"]
        if not gpu:
            line += ["--dtype", "bfloat16", "--enforce-eager"]
    else:
        line = [spec.python, "-m", "transformers.cli.transformers", "serve", spec.model, *where]
        line += ["--continuous-batching"]
        if not gpu:
            line += ["--device", "cpu", "--dtype", "bfloat16"]
            line += ["--cb-num-blocks", "128", "--cb-max-batch-tokens", "512"]
    return [*line, *spec.args]


def environment(spec: EngineSpec) -> dict[str, str]:
    """What the engine needs, under the guard's own environment, under what the operator adds."""
    gpu = has_gpu() if spec.gpu is None else spec.gpu
    added = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "PYTHONSAFEPATH": "1",  # no module of the working folder shadows one of the engine
        "PYTHONUNBUFFERED": "1",
    }
    if Path(spec.model).exists():
        added["HF_HUB_OFFLINE"] = "1"
    if not gpu:
        added["OMP_WAIT_POLICY"] = "PASSIVE"
    if spec.kind == "vllm":
        added["VLLM_NO_USAGE_STATS"] = "1"
        if not gpu:
            added["VLLM_CPU_KVCACHE_SPACE"] = "2"
            added["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return {**added, **os.environ, **spec.env}


def has_gpu() -> bool:
    """Whether the machine has an accelerator driver, without importing what would use it."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port

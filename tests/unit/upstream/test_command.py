from __future__ import annotations

from pathlib import Path

import pytest

from guard.upstream.command import EngineSpec, command, environment


def test_transformers_serve_is_started_without_the_path() -> None:
    """The engine comes from the chosen interpreter, listens on loopback, with a bounded cache."""
    line = command(EngineSpec("transformers", "/m", python="/py", gpu=False), 8123)

    assert line[:5] == ["/py", "-m", "transformers.cli.transformers", "serve", "/m"]
    assert line[line.index("--host") + 1] == "127.0.0.1"
    assert line[line.index("--port") + 1] == "8123"
    assert "--continuous-batching" in line
    assert "--cb-num-blocks" in line


def test_vllm_is_started_as_a_module() -> None:
    """VLLM's server module is run, since its console script may not exist under that name."""
    line = command(EngineSpec("vllm", "/m", python="/py", gpu=False), 8123)

    assert line[:5] == ["/py", "-m", "vllm.entrypoints.openai.api_server", "--model", "/m"]
    assert "--enforce-eager" in line


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_an_accelerator_needs_no_processor_settings(kind: str) -> None:
    """With a GPU neither the data type nor the cache is decided for the engine."""
    spec = EngineSpec(kind, "/m", gpu=True)  # type: ignore[arg-type]

    assert not {"--dtype", "--device", "--cb-num-blocks"} & set(command(spec, 1))
    assert "OMP_WAIT_POLICY" not in environment(spec)


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_the_operators_arguments_come_last(kind: str) -> None:
    """Arguments that repeat one of ours override it."""
    spec = EngineSpec(kind, "/m", args=("--dtype", "float32"), gpu=False)  # type: ignore[arg-type]

    assert command(spec, 1)[-2:] == ["--dtype", "float32"]


def test_a_local_model_needs_no_hub(tmp_path: Path) -> None:
    """Only a model that is no local folder may be downloaded by the engine."""
    assert environment(EngineSpec("vllm", str(tmp_path)))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(EngineSpec("vllm", "org/model"))


def test_the_environment_is_layered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's own environment overrides the defaults, the operator's settings override both."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "8")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    env = environment(EngineSpec("vllm", "/m", env={"OMP_WAIT_POLICY": "PASSIVE"}, gpu=False))

    assert (env["VLLM_CPU_KVCACHE_SPACE"], env["OMP_WAIT_POLICY"]) == ("8", "PASSIVE")

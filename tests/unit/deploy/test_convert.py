from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own deprecations
]
SCRIPT = Path(__file__).parents[3] / "deploy" / "embedded" / "convert.py"


@pytest.fixture(name="convert")
def _convert() -> Any:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("convert", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_model() -> Any:
    """A small model; the same weights every time."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config).to(torch.bfloat16)


def save_adapter(folder: Path, **settings: Any) -> Any:
    """Save an adapter that does something; the model with it merged by its own library."""
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    wrapped = peft.get_peft_model(tiny_model(), peft.LoraConfig(r=4, lora_alpha=8, **settings))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload()


@pytest.mark.parametrize("scaled_by_root", [False, True])
def test_merging_equals_the_librarys_own(convert: Any, tmp_path: Path, scaled_by_root: bool) -> None:
    """Merged weights are the same to the bit as peft's."""
    expected = save_adapter(tmp_path, target_modules="all-linear", use_rslora=scaled_by_root)
    model = tiny_model()

    assert convert.merge(model, tmp_path) == 14
    for name, weight in expected.state_dict().items():
        assert weight.equal(model.state_dict()[name])


def test_an_adapter_for_another_model_is_refused(convert: Any, tmp_path: Path) -> None:
    """A module that the model does not have ends the merge."""
    save_adapter(tmp_path, target_modules=["q_proj"])
    model = tiny_model()
    del model.model.layers[1]

    with pytest.raises(SystemExit, match="has no module"):
        convert.merge(model, tmp_path)


@pytest.mark.parametrize("setting", [{"use_dora": True}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_other_kinds_of_adapters_are_refused(convert: Any, tmp_path: Path, setting: dict[str, Any]) -> None:
    """What a plain merge would get wrong is not merged."""
    save_adapter(tmp_path, target_modules=["q_proj"])
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **setting}))

    with pytest.raises(SystemExit, match="only plain LoRA"):
        convert.merge(tiny_model(), tmp_path)


def test_shared_weights_are_not_changed(convert: Any, tmp_path: Path) -> None:
    """An adapter on the output layer of a model that ties it to its input is refused."""
    save_adapter(tmp_path, target_modules=["lm_head"])

    with pytest.raises(SystemExit, match="shares its weights"):
        convert.merge(tiny_model(), tmp_path)

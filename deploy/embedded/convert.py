"""Turn a GGUF file into an ordinary checkpoint folder: bf16 safetensors, tokenizer, chat template.

    convert.py FILE.gguf OUT_DIR [--adapter DIR]

Engines read such folders at once and need no GGUF support of their own. With ``--adapter`` a LoRA
adapter in peft's format is merged into the weights: W + scale * B @ A, computed in float32. Merged,
it costs nothing at serving and works with engines that cannot load adapters, transformers serve for
one. An adapter with anything this does not understand is refused, never half applied.

Run by ``fetch_model.py``, in a process of its own because of the memory it needs.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

PREFIX = "base_model.model."


def main() -> None:
    """Convert, merge, save."""
    parser = argparse.ArgumentParser(description="Turn a GGUF file into a checkpoint folder.")
    parser.add_argument("gguf", type=Path, help="the GGUF file")
    parser.add_argument("out", type=Path, help="the checkpoint folder to write")
    parser.add_argument("--adapter", type=Path, help="a LoRA adapter folder to merge in")
    options = parser.parse_args()

    folder, name = options.gguf.parent, options.gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # a dense model now; saving refuses otherwise
    if options.adapter:
        print(f"merged {merge(model, options.adapter)} adapter modules")
        if (options.adapter / "tokenizer.json").exists():
            tokenizer = AutoTokenizer.from_pretrained(options.adapter)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


def merge(model: PreTrainedModel, folder: Path) -> int:
    """Add a LoRA adapter to the weights of its base model; how many modules it changed.

    Raises:
        SystemExit: The adapter is of a kind this does not know, or does not fit the model.
    """
    config = json.loads((folder / "adapter_config.json").read_text())
    unknown = [
        name for name in ("use_dora", "modules_to_save", "alpha_pattern", "rank_pattern") if config.get(name)
    ]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unknown:
        raise SystemExit(
            f"{folder}: only plain LoRA adapters can be merged ({unknown or config.get('peft_type')})"
        )
    rank, alpha = config["r"], config["lora_alpha"]
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    tensors = load_file(folder / "adapter_model.safetensors")
    merged = 0
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        down, up = tensors.pop(key), tensors.pop(key.replace(".lora_A.", ".lora_B."))
        try:
            weight = model.get_submodule(module).weight
        except AttributeError:
            raise SystemExit(f"{folder}: the model has no module {module}") from None
        if model.config.tie_word_embeddings and weight is model.get_input_embeddings().weight:
            raise SystemExit(f"{folder}: {module} shares its weights; merging would change both")
        delta = scale * (up.float() @ down.float())  # [out, rank] @ [rank, in]
        if config.get("fan_in_fan_out"):
            delta = delta.T
        weight.data = (weight.data.float() + delta).to(weight.dtype)
        merged += 1
    if tensors or not merged:
        raise SystemExit(f"{folder}: cannot merge {sorted(tensors)[:3] or 'an empty adapter'}")
    return merged


if __name__ == "__main__":
    main()

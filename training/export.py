"""Stage ``export``: the adapter, its card and the report, ready to be served.

Reads the newest trained model (``rl/model`` where the recipe has ``[rl]``, else ``sft/model``), the stage
manifests and the evaluation report. Writes into the recipe's ``export.out``: ``adapter_model.safetensors``
(bfloat16), ``adapter_config.json``, ``model-card.json``, ``report.md``, ``report.html``. The adapter loads
into vLLM (``--enable-lora --lora-modules guard=DIR``) and, merged by :func:`merge`, into any engine.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson

from guard.policy.model import Policy
from training.errors import DataError
from training.files import manifest_path, write_json
from training.recipe import Recipe

STAGE_MODELS = ("rl", "sft")
_CARD_SETTINGS: dict[str, Any] = {
    "prompts": {"validation", "variants", "near_duplicate", "imports", "ordinary_limit", "policy_examples"},
    "generate": {"mode", "samples", "temperature", "max_tokens", "own_answers", "book_answers"},
    "filter": True,
    "sft": True,
    "rl": True,
}
"""Settings that a card repeats; none of them is a path of the machine it was made on."""
_CARD_KEYS = ("prompts", "generate", "judge", "filter", "sft", "rl")


def export(recipe: Recipe, policy: Policy) -> dict[str, Any]:
    """Write the served form of the run's model; the facts for the manifest.

    Raises:
        DataError: Nothing was trained, or it was trained whole rather than as an adapter.
    """
    made = (s for s in STAGE_MODELS if _has(recipe, s) and (recipe.run_dir / s / "model").exists())
    stage = next(made, None)
    if stage is None:
        raise DataError(f"{recipe.run_dir} holds no trained model; run sft first")
    model = recipe.run_dir / stage / "model"
    if not (model / "adapter_config.json").exists():
        raise DataError(f"{model} is a whole checkpoint; serve it as it is (only adapters are exported)")
    out = recipe.export.out
    out.mkdir(parents=True, exist_ok=True)
    size = write_adapter(model, out, recipe.export.base)
    for name in ("report.md", "report.html"):
        report = recipe.run_dir / "evaluation" / name
        if report.exists():
            shutil.copyfile(report, out / name)
    write_json(out / "model-card.json", card(recipe, policy, stage))
    return {"stage": stage, "adapter_bytes": size, "out": str(out)}


def write_adapter(model: Path, out: Path, base: str) -> int:
    """Copy an adapter as bfloat16, naming its public base; its size in bytes."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "adapter_model.safetensors")
    target = out / "adapter_model.safetensors"
    halved = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}
    save_file(halved, target, metadata={"format": "pt"})
    target.chmod(0o644)
    config = orjson.loads((model / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = base
    config["inference_mode"] = True
    write_json(out / "adapter_config.json", config)
    return target.stat().st_size


def card(recipe: Recipe, policy: Policy, stage: str) -> dict[str, Any]:
    """What a server and a reader must know about the model.

    ``sections`` names the digest of every section in the policy it was trained on: what differs from the
    policy in force is drift, and is put before the model instead of taken as learnt.
    """
    manifests = {name: _manifest(recipe, name) for name in _CARD_KEYS if _has(recipe, name)}
    trained = manifests["sft"] or {}
    report = recipe.run_dir / "evaluation" / "report.json"
    return {
        "name": recipe.name,
        "base": recipe.export.base,
        "licence": recipe.export.licence,
        "stage": stage,
        "policy": {"name": policy.name, "version": policy.version},
        "policy_digest": trained.get("policy_digest", policy.digest),
        "sections": trained.get("sections") or {s.id: s.digest for s in policy.sections},
        "seed": recipe.seed,
        "recipe": recipe.model_dump(mode="json", include=_CARD_SETTINGS, exclude_none=True),
        "data": {name: facts for name, facts in manifests.items() if facts is not None},
        "metrics": orjson.loads(report.read_bytes()) if report.exists() else {},
        "notes": list(recipe.export.notes),
    }


def _has(recipe: Recipe, stage: str) -> bool:
    """Whether the recipe has the stage; without ``[rl]`` what an earlier one left is not its own."""
    return stage != "rl" or recipe.rl is not None


def _manifest(recipe: Recipe, stage: str) -> dict[str, Any] | None:
    path = manifest_path(recipe.run_dir, stage)
    if not path.exists():
        return None
    facts: dict[str, Any] = orjson.loads(path.read_bytes())
    return {key: value for key, value in facts.items() if key not in {"key", "stage", "recipe"}}


def merge(base: str, adapter: Path, out: Path) -> None:
    """Write base and adapter as one checkpoint, for engines that load no adapters.

    Raises:
        DataError: The base or the adapter cannot be loaded.
    """
    from training.local import LocalModel

    loaded = LocalModel(base, adapter=adapter)
    loaded.model.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)

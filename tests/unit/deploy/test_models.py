"""The folders under ``deploy/`` that hold a trained model."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from guard.config import load_settings
from guard.policy.load import load_policy

ROOT = Path(__file__).parents[3]
MODELS = sorted(path.parent for path in (ROOT / "deploy").glob("*/model-card.json"))


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_a_models_settings_load_and_name_its_own_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are read from the project's root, as the README starts them."""
    monkeypatch.chdir(ROOT)
    settings = load_settings(folder / "guard.toml", engine={"model": "any"})
    assert settings.engine.card is not None
    assert settings.engine.card.resolve() == folder / "model-card.json"


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_a_models_card_knows_the_sections_of_the_default_policy(folder: Path) -> None:
    """A section that was changed since is drift; one that the card does not know was never learnt."""
    card = orjson.loads((folder / "model-card.json").read_bytes())
    assert set(card["sections"]) == {
        section.id for section in load_policy(ROOT / "specs" / "default").sections
    }
    assert card["base"]
    assert card["licence"] == "Apache-2.0"

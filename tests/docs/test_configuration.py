from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_configuration_page_is_up_to_date() -> None:
    """docs/configuration.md is what docs/generate.py makes of the settings: run it after a change."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == generate.configuration()

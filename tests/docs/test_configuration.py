from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(name="generate")
def _generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return generate


def test_the_configuration_page_is_up_to_date(generate: ModuleType) -> None:
    """docs/configuration.md is what docs/generate.py makes of the settings: run it after a change."""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == generate.configuration()


def test_the_page_of_request_fields_is_up_to_date(generate: ModuleType) -> None:
    """docs/fields.md says of every field on every endpoint what becomes of it: run docs/generate.py."""
    assert (ROOT / "docs" / "fields.md").read_text(encoding="utf-8") == generate.fields()


def test_the_table_of_tricks_is_up_to_date(generate: ModuleType) -> None:
    """docs/security.md has a row for every test of tests/security: run docs/generate.py after a change."""
    assert (ROOT / "docs" / "security.md").read_text(encoding="utf-8") == generate.security()

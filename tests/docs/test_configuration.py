from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(name="generate")
def _generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("generate")


def test_the_configuration_page_is_up_to_date(generate: ModuleType) -> None:
    """docs/configuration.md is what docs/generate.py makes of the settings: run it after a change."""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == generate.configuration()


def test_the_page_of_request_fields_is_up_to_date(generate: ModuleType) -> None:
    """docs/fields.md says of every field on every endpoint what becomes of it: run docs/generate.py."""
    assert (ROOT / "docs" / "fields.md").read_text(encoding="utf-8") == generate.fields()


def test_the_page_of_field_lessons_is_up_to_date(generate: ModuleType) -> None:
    """docs/field-lessons.md has the tests of each lesson: run docs/generate.py after a change."""
    assert (ROOT / "docs" / "field-lessons.md").read_text(encoding="utf-8") == generate.lessons()


def test_every_field_lesson_has_a_test(generate: ModuleType) -> None:
    """No fault that is known from elsewhere is without a test that names it."""
    named = {number for *_, numbers in generate.field_lessons.named() for number in numbers}

    assert named == set(range(1, 63))


def test_the_table_of_tricks_is_up_to_date(generate: ModuleType) -> None:
    """docs/security.md has a row for every test of tests/security: run docs/generate.py after a change."""
    assert (ROOT / "docs" / "security.md").read_text(encoding="utf-8") == generate.security()

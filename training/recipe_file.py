"""Read a ``recipe.toml``: environment variables put in, every problem reported together.

A string may name an environment variable as ``${NAME:-default}``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.errors import RecipeError
from training.recipe import Recipe

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def load_recipe(path: Path, environment: Mapping[str, str] | None = None) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: The file cannot be read, or holds bad values or unknown keys: all of them.
    """
    environment = os.environ if environment is None else environment
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(str(path), [f"is not TOML: {error}"]) from error
    problems: list[str] = []
    expanded = _expand(data, environment, problems, "")
    try:
        recipe = Recipe.model_validate(expanded)
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"]) or "recipe"
            unknown = item["type"] == "extra_forbidden"
            problems.append(f"{where}: unknown key" if unknown else f"{where}: {item['msg']}")
        raise RecipeError(str(path), problems) from error
    if problems:
        raise RecipeError(str(path), problems)
    return recipe


def _expand(value: Any, environment: Mapping[str, str], problems: list[str], where: str) -> Any:
    """Environment variables into every string, however deep."""
    if isinstance(value, dict):
        return {k: _expand(v, environment, problems, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, environment, problems, f"{where}.{n}") for n, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        found = environment.get(match["name"]) or match["default"]
        if found is None:
            problems.append(f"{where}: environment variable {match['name']} is not set and has no default")
            return ""
        return found

    return _VARIABLE.sub(put, value)

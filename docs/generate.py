"""Write the pages that are made from code: `python docs/generate.py`; a test holds them up to date."""

from __future__ import annotations

import ast
import enum
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guard.config import KeySettings, Settings

FOLDER = Path(__file__).parent

INTRODUCTION = """\
# Configuration

<!-- Made by docs/generate.py from guard/config.py; change it there. -->

Settings come from the command line (`guard serve --help`), then the environment, then a TOML file named by
`guard serve --config FILE` or `GUARD_CONFIG`, then the defaults below. Unknown names and unusable values stop the start,
all named at once. In the environment a setting is `GUARD_` and its name in capitals, with two underscores for the dot:
`GUARD_RETRIEVAL__MAX_SECTIONS=2`. A file:

```toml
host = "0.0.0.0"
policies = ["specs/default"]

[engine]
upstream = "http://127.0.0.1:8000/v1"
upstream_key_env = "ENGINE_KEY"      # the name of the variable that holds the key, never the key

[enforcement]
mode = "enforce"
actions = { unknown_citation = "retry_then_refuse" }

[[keys]]                             # `guard key new app --scope chat` prints these lines
name = "app"
hash = "sha256:…"
scopes = ["chat"]
```
"""


def configuration() -> str:
    """The page of all settings."""
    parts = [INTRODUCTION, "## Service\n", _table(_own(Settings))]
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            parts += [f"## {name}\n", f"{field.description}\n", _table(_fields(model, f"{name}."))]
    parts += ["## keys\n", "One table `[[keys]]` per key.\n", _table(_fields(KeySettings, ""))]
    return "\n".join(parts)


def _own(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in _fields(model, ""):
        annotation = field.annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            yield name, field


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field


def _table(fields: Iterator[tuple[str, FieldInfo]]) -> str:
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, field in fields:
        meaning = " ".join((field.description or "").split()).replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _type(annotation: object) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        return _type(next(argument for argument in arguments if argument is not type(None)))
    if origin in {tuple, frozenset}:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"table of {_type(arguments[0])} = {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    names = {str: "text", int: "number", float: "seconds", bool: "true, false", Path: "path"}
    return names.get(typing.cast(type, annotation), "table")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, frozenset | tuple | dict):
        return ", ".join(f"`{_plain(item)}`" for item in value) or "none"
    return f"`{_plain(value)}`"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value) if isinstance(value, enum.Enum) else str(value)


TRICKS = FOLDER.parent / "tests" / "security"
BEGIN = "<!-- Made by docs/generate.py from tests/security; change it there. -->\n"
END = "<!-- End of what is made. -->\n"
ENDPOINTS = {
    "": "all four",
    "*TURNS": "chat, responses, messages",
    "CHAT, COMPLETIONS": "chat, completions",
    "*(surface for surface in SURFACES if surface.stop)": "chat, messages, completions",
}
"""Endpoints by the arguments of the decorator that runs a test on them."""


def security() -> str:
    """The page of security with the tables of tricks as the tests have them."""
    page = (FOLDER / "security.md").read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(_tricks(file) for file in sorted(TRICKS.glob("test_*.py")))
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def _tricks(file: Path) -> str:
    """The table of one family of tricks: each test is a row."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    rows = [
        f"### {file.stem.removeprefix('test_').replace('_', ' ').capitalize()}\n",
        f"{ast.get_docstring(module)} (`tests/security/{file.name}`)\n",
        "| what is tried, and what comes of it | endpoints | told in detail |",
        "|---|---|---|",
    ]
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            told = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()).replace("|", "\\|")
            rows.append(
                f"| {node.name.removeprefix('test_').replace('_', ' ')} | {_endpoints(node)} | {told} |"
            )
    return "\n".join(rows) + "\n"


def _endpoints(test: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """On which endpoints a test runs; empty where its own text says so."""
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "each_surface":
            return ENDPOINTS[", ".join(map(ast.unparse, decorator.args))] + ", streamed and not"
        if "SURFACES" in ast.unparse(decorator):
            return ENDPOINTS[""]
    return ""


if __name__ == "__main__":
    (FOLDER / "configuration.md").write_text(configuration(), encoding="utf-8")
    (FOLDER / "security.md").write_text(security(), encoding="utf-8")

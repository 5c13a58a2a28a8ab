"""Write the pages that are made from code: `python docs/generate.py`; a test holds them up to date."""

from __future__ import annotations

import ast
import enum
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import field_lessons
import request_fields
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guard.config import KeySettings, MiddlewareSettings, Settings

FOLDER = Path(__file__).parent

INTRODUCTION = """\
# Configuration

<!-- Made by docs/generate.py from guard/config.py; change it there. -->

Settings come from the command line (`guard serve --help`), then the environment, then a TOML file named by
`guard serve --config FILE` or `GUARD_CONFIG`, then the defaults below. Unknown names and unusable values stop the start,
all named at once. In the environment a setting is `GUARD_` and its name in capitals, with two underscores for the dot:
`GUARD_RETRIEVAL__MAX_SECTIONS=2`. Lists and tables are JSON there: `GUARD_POLICIES='["specs/default"]'`,
`GUARD_ENGINE__ARGS='["--max-model-len=8192"]'`. Any other variable that begins with `GUARD_` is unknown, but for the one that
`engine.upstream_key_env` names, those that the commands and the training use, and what Kubernetes sets beside a Service
named `guard` (of which `GUARD_PORT=tcp://…` counts as not set). A file:

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

MIDDLEWARE = """\
`guard.asgi.GuardMiddleware` takes the same settings from the file that `GUARD_CONFIG` names, from the environment and from
its keyword arguments. Its engine is the app that it wraps: `engine.upstream`, `engine.kind` and what starts an engine stay
out, and `host`, `port` and `drain_seconds` are those of the server around it. One setting is its own:
"""


def configuration() -> str:
    """The page of all settings."""
    parts = [INTRODUCTION, "## Service\n", _table(_own(Settings))]
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            parts += [f"## {name}\n", f"{field.description}\n", _table(_fields(model, f"{name}."))]
    parts += ["## keys\n", "One table `[[keys]]` per key.\n", _table(_fields(KeySettings, ""))]
    own = ((name, field) for name, field in _own(MiddlewareSettings) if name not in Settings.model_fields)
    parts += ["## As middleware\n", MIDDLEWARE, _table(own)]
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
        meaning = request_fields.cell(field.description)
        rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _type(annotation: object) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
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


def fields() -> str:
    """The page of request fields with the table as the code has it."""
    return _filled("fields.md", request_fields.table())


def lessons() -> str:
    """The page of field lessons with the tests that name them."""
    return _filled("field-lessons.md", field_lessons.table())


TRICKS = FOLDER.parent / "tests" / "security"
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
    return _filled("security.md", "\n".join(_tricks(file) for file in sorted(TRICKS.glob("test_*.py"))))


def _filled(name: str, made: str) -> str:
    """A page with what is made between its two marks."""
    before, begin, rest = re.split(r"(<!-- Made by .* -->\n)", (FOLDER / name).read_text(encoding="utf-8"))
    return f"{before}{begin}\n{made}\n{END}{rest.partition(END)[2]}"


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
    (FOLDER / "fields.md").write_text(fields(), encoding="utf-8")
    (FOLDER / "field-lessons.md").write_text(lessons(), encoding="utf-8")
    (FOLDER / "security.md").write_text(security(), encoding="utf-8")

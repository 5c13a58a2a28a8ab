"""The table of field lessons, made of the docstrings that name them."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
_NAMED = re.compile(r"Field lessons? (\d+(?:(?:, | and | to )\d+)*)")


def table() -> str:
    """A row for every lesson that a test names."""
    tests: dict[int, list[str]] = defaultdict(list)
    for file, name, numbers in named():
        for number in numbers:
            tests[number].append(f"[{name}](../tests/{file.relative_to(TESTS)})")
    rows = ["| lesson | tests |", "|---|---|"]
    rows += [f"| {number} | {', '.join(tests[number])} |" for number in sorted(tests)]
    return "\n".join(rows) + "\n"


def named() -> Iterator[tuple[Path, str, list[int]]]:
    """Every docstring of a test, or of its file, that names lessons: file, name in words, numbers."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
                name = file.stem if isinstance(node, ast.Module) else node.name
                for numbers in _NAMED.findall(" ".join((ast.get_docstring(node) or "").split())):
                    yield file, name.removeprefix("test_").replace("_", " "), _numbers(numbers)


def _numbers(text: str) -> list[int]:
    """Numbers and spans of them: "1, 3 to 5 and 7"."""
    numbers: list[int] = []
    for part in re.split(r", | and ", text):
        first, _, last = part.partition(" to ")
        numbers += range(int(first), int(last or first) + 1)
    return numbers

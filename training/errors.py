"""Every error the training stages raise on purpose.

    TrainingError
    ├── RecipeError     the recipe cannot be used; holds every problem found
    ├── DataError       an input file is absent, empty or misses what a stage needs
    └── EndpointError   a model endpoint is down or answers what cannot be used

Each ends the stage with one clear message and exit status 2; finished work stays on disk.
"""

from __future__ import annotations


class TrainingError(Exception):
    """Base of every error raised on purpose."""


class RecipeError(TrainingError):
    """A recipe that cannot be used."""

    def __init__(self, path: str, problems: list[str]) -> None:
        """Keep every problem, so that they can be mended in one go."""
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))


class DataError(TrainingError):
    """An input that a stage cannot work with; the text names file and line."""


class EndpointError(TrainingError):
    """A request that failed for good; what was answered before it is kept in the cache."""

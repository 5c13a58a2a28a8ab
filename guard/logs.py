"""Logs. No prompt, answer or key is ever in them."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure_logs(form: Literal["console", "json"]) -> None:
    """Send structlog and the standard library's loggers to stderr in one form."""
    shared, renderer = _processors(form)
    _configure_structlog(shared, renderer)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def configure_events(form: Literal["console", "json"]) -> None:
    """Send structlog alone to stderr, in a process of somebody else; nothing where that has configured it."""
    if not structlog.is_configured():
        _configure_structlog(*_processors(form))


def _processors(
    form: Literal["console", "json"],
) -> tuple[list[structlog.types.Processor], structlog.types.Processor]:
    """What events go through, and what writes them."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        return [*shared, structlog.processors.format_exc_info], structlog.processors.JSONRenderer()
    return shared, structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # the rich one shows variables: prompts, keys
    )


def _configure_structlog(
    shared: list[structlog.types.Processor], renderer: structlog.types.Processor
) -> None:
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

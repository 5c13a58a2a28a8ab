"""Metrics and logs. No prompt, answer or key is ever in either."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from guard.audit.record import Outcome, Record
from guard.audit.writer import AuditWriter
from guard.deliberation.citations import CitationStatus
from guard.policy.model import Policy

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_MILLISECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50)


class _Series(dict[tuple[str, ...], Counter]):
    """The series of one counter by their labels; the counter's own look-up takes a lock and checks names."""

    def __init__(self, name: str, text: str, labels: list[str], registry: CollectorRegistry) -> None:
        super().__init__()
        self._counter = Counter(name, text, labels, registry=registry)

    def __missing__(self, values: tuple[str, ...]) -> Counter:
        self[values] = series = self._counter.labels(*values)
        return series


class _AuditCollector(Collector):
    """What the audit writer counts by itself, read when somebody asks."""

    def __init__(self, writer: AuditWriter) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Two numbers of now, three since the start."""
        writer = self._writer
        yield GaugeMetricFamily("guard_audit_pending", "Records not yet durable.", writer.pending)
        yield GaugeMetricFamily(
            "guard_audit_spilled", "Records in the spill file, not yet in the database.", writer.backlog
        )
        yield CounterMetricFamily(
            "guard_audit_replayed", "Records brought from the spill file to the database.", writer.replayed
        )
        yield CounterMetricFamily(
            "guard_audit_rejected",
            "Records that the database will never take, kept in a file.",
            writer.rejected,
        )
        yield CounterMetricFamily("guard_audit_dropped", "Records that are nowhere.", writer.dropped)


class Metrics:
    """The guard's Prometheus metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Register everything; label values that are known beforehand start at zero."""
        self.registry = registry = CollectorRegistry()
        self._choices = _Series(
            "guard_choices", "Choices by endpoint and outcome.", ["endpoint", "outcome"], registry
        )
        self._verdicts = _Series(
            "guard_verdicts", "Verdicts of the thinking.", ["policy", "verdict"], registry
        )
        self._findings = _Series(
            "guard_findings", "Findings about deliberations.", ["policy", "finding"], registry
        )
        self._citations = _Series("guard_citations", "Citations by status.", ["policy", "status"], registry)
        self._disagreements = _Series(
            "guard_disagreements", "Answers against their verdict.", ["policy"], registry
        )
        tokens = Counter("guard_tokens", "Tokens by kind.", ["kind"], registry=registry)
        self._prompt_tokens, self._completion_tokens = tokens.labels("prompt"), tokens.labels("completion")
        self._total = Histogram(
            "guard_choice_seconds", "Admission to end of a choice.", buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "guard_first_token_seconds",
            "Admission to first visible token.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._retrieval = Histogram(
            "guard_retrieval_milliseconds",
            "Time to find sections.",
            buckets=_MILLISECONDS,
            registry=registry,
        )
        self.reloads = Counter(
            "guard_policy_reloads", "Policy reloads.", ["policy", "result"], registry=registry
        )
        self._policy = Gauge(
            "guard_policy_info", "The policy in force.", ["policy", "version", "digest"], registry=registry
        )
        self._policy_labels: dict[str, tuple[str, str, str]] = {}
        self.engine_up = Gauge("guard_engine_up", "Whether the engine answers.", registry=registry)
        self.audit_batch = Histogram(
            "guard_audit_batch_seconds", "One audit transaction.", buckets=_SECONDS, registry=registry
        )

    def observe(self, record: Record) -> None:
        """Count one finished choice."""
        if record.outcome is Outcome.STREAMING:
            return
        policy = record.policy
        self._choices[record.endpoint, record.outcome].inc()
        self._verdicts[policy, record.verdict or "none"].inc()
        for finding in record.findings:
            self._findings[policy, finding].inc()
        for citation in record.citations:
            self._citations[policy, citation.status].inc()
        if record.agrees is False:
            self._disagreements[policy,].inc()
        self._prompt_tokens.inc(record.prompt_tokens)
        self._completion_tokens.inc(record.completion_tokens)
        self._total.observe(record.total_ms / 1000)
        if record.first_token_ms:
            self._first.observe(record.first_token_ms / 1000)
        self._retrieval.observe(record.retrieval_ms)

    def show_policy(self, policy: Policy) -> None:
        """Show the version in force; the series of a new policy begin at zero, so that rates are right."""
        if policy.name not in self._policy_labels:
            for status in CitationStatus:
                self._citations[policy.name, status].inc(0)
            for result in ("changed", "rejected"):
                self.reloads.labels(policy.name, result)
        else:
            self._policy.remove(*self._policy_labels[policy.name])
        labels = (policy.name, policy.version, policy.digest[:12])
        self._policy_labels[policy.name] = labels
        self._policy.labels(*labels).set(1)

    def show_audit(self, writer: AuditWriter) -> None:
        """Show where records wait, and how many were lost."""
        self.registry.register(_AuditCollector(writer))

    def render(self) -> bytes:
        """Prometheus text of all metrics."""
        return generate_latest(self.registry)


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

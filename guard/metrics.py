"""Prometheus metrics. No prompt, answer or key is ever in them.

What every choice adds to is counted in plain numbers, and given to the library when somebody asks: its own
counters take a lock and a dozen calls each, 2.5 us a choice in all and more on a cold cache. All counting
happens on one event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from guard.audit.record import Outcome, Record
from guard.audit.writer import AuditWriter
from guard.deliberation.citations import CitationStatus
from guard.policy.model import Policy

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_MILLISECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50)


class _Counts(Counter[tuple[str, ...]]):
    """A counter with labels: numbers by the labels' values."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        super().__init__()
        self._about = (name, text)
        self._labels = labels

    def family(self) -> Metric:
        """What is counted so far."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for values, count in self.items():
            family.add_metric(values, count)
        return family


class _Buckets:
    """A histogram."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._about = (name, text)
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Add one value; a bound belongs to the bucket below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self) -> Metric:
        """What is observed so far."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(names, map(float, accumulate(self._counts)), strict=True))
        return HistogramMetricFamily(*self._about, buckets=buckets, sum_value=self._sum)


class _Choices(Collector):
    """What the records of choices add up to."""

    def __init__(self) -> None:
        self.choices = _Counts("guard_choices", "Choices by endpoint and outcome.", "endpoint", "outcome")
        self.verdicts = _Counts("guard_verdicts", "Verdicts of the thinking.", "policy", "verdict")
        self.findings = _Counts("guard_findings", "Findings about deliberations.", "policy", "finding")
        self.citations = _Counts("guard_citations", "Citations by status.", "policy", "status")
        self.disagreements = _Counts("guard_disagreements", "Answers against their verdict.", "policy")
        self.tokens = _Counts("guard_tokens", "Tokens by kind.", "kind")
        self.total = _Buckets("guard_choice_seconds", "Admission to end of a choice.", _SECONDS)
        self.first = _Buckets("guard_first_token_seconds", "Admission to first visible token.", _SECONDS)
        self.retrieval = _Buckets("guard_retrieval_milliseconds", "Time to find sections.", _MILLISECONDS)

    def collect(self) -> Iterator[Metric]:
        """Everything, as it stands now."""
        counts = (self.choices, self.verdicts, self.findings, self.citations, self.disagreements, self.tokens)
        for part in (*counts, self.total, self.first, self.retrieval):
            yield part.family()


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
        self._of = _Choices()
        self._of.tokens.update({("prompt",): 0, ("completion",): 0})
        registry.register(self._of)
        self.reloads = prometheus_client.Counter(
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
        policy, of = record.policy, self._of
        of.choices[record.endpoint, record.outcome] += 1
        of.verdicts[policy, record.verdict or "none"] += 1
        for finding in record.findings:
            of.findings[policy, finding] += 1
        for citation in record.citations:
            of.citations[policy, citation.status] += 1
        if record.agrees is False:
            of.disagreements[policy,] += 1
        of.tokens["prompt",] += record.prompt_tokens
        of.tokens["completion",] += record.completion_tokens
        of.total.observe(record.total_ms / 1000)
        if record.first_token_ms:
            of.first.observe(record.first_token_ms / 1000)
        of.retrieval.observe(record.retrieval_ms)

    def show_policy(self, policy: Policy) -> None:
        """Show the version in force; the series of a new policy begin at zero, so that rates are right."""
        if policy.name not in self._policy_labels:
            for status in CitationStatus:
                self._of.citations[policy.name, status] += 0
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

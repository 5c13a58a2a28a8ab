"""What the metrics say of choices, read as Prometheus reads them."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from guard.audit.record import Outcome
from guard.deliberation.deliberation import Finding
from guard.metrics import Metrics
from tests.unit.audit.factory import make_policy, make_record

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


def shown(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def counted(**changes: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples after one record."""
    metrics = Metrics()
    metrics.observe(make_record(**changes))
    return shown(metrics)


def test_one_record_counts_once_in_every_series_it_belongs_to() -> None:
    """Outcome, verdict, each finding, each citation, both kinds of tokens."""
    found = counted(agrees=False, findings=(Finding.MISQUOTED_CITATION,))

    assert found["guard_choices_total", (("endpoint", "/v1/chat/completions"), ("outcome", "answered"))] == 1
    assert found["guard_verdicts_total", (("policy", "default"), ("verdict", "safe_complete"))] == 1
    assert found["guard_findings_total", (("finding", "misquoted_citation"), ("policy", "default"))] == 1
    assert found["guard_citations_total", (("policy", "default"), ("status", "verified"))] == 2
    assert found["guard_disagreements_total", (("policy", "default"),)] == 1
    assert found["guard_tokens_total", (("kind", "prompt"),)] == 812
    assert found["guard_tokens_total", (("kind", "completion"),)] == 164


@pytest.mark.parametrize(("changes", "count"), [({}, 1), ({"first_token_ms": 0.0}, 0)])
def test_an_answer_without_a_token_has_no_time_to_its_first(changes: dict[str, Any], count: int) -> None:
    """A refused connection would pull the percentiles down otherwise."""
    assert counted(**changes)["guard_first_token_seconds_count", ()] == count


def test_the_first_version_of_a_stream_is_not_counted() -> None:
    """Its final version will be."""
    assert not [key for key in counted(outcome=Outcome.STREAMING) if key[0] == "guard_choices_total"]


def test_known_series_begin_at_zero() -> None:
    """So that the rate of the first one is right."""
    metrics = Metrics()
    metrics.show_policy(make_policy())
    found = shown(metrics)
    assert found["guard_tokens_total", (("kind", "prompt"),)] == 0
    assert [value for key, value in found.items() if key[0] == "guard_citations_total"] == [0.0] * 5


@given(st.lists(st.sampled_from(SECONDS) | st.floats(0, 1000), max_size=30))
def test_a_histogram_is_what_the_library_would_make_of_the_values(values: list[float]) -> None:
    """The same buckets, a value on a bound in the bucket below it, the same count and sum."""
    metrics = Metrics()
    peer = prometheus_client.Histogram("peer", "The library's own.", buckets=SECONDS, registry=None)
    for value in values:
        metrics.observe(make_record(total_ms=value * 1000))
        peer.observe(value * 1000 / 1000)
    theirs = {
        (sample.name.replace("peer", "guard_choice_seconds"), tuple(sample.labels.items())): sample.value
        for family in peer.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    found = {key: value for key, value in shown(metrics).items() if key[0].startswith("guard_choice_seconds")}
    assert found == pytest.approx(theirs)

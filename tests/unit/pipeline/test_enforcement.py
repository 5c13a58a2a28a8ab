from __future__ import annotations

import pytest

from guard.deliberation.deliberation import Finding
from guard.pipeline.enforcement import DEFAULT_ACTIONS, Action, Enforcement, Mode, reminder

ENFORCE = Enforcement(Mode.ENFORCE, retries=1)


def test_observing_changes_nothing() -> None:
    """In observe mode every finding is only recorded."""
    assert {Enforcement().decide([finding], 1) for finding in Finding} == {Action.PASS}


@pytest.mark.parametrize("finding", [f for f, a in DEFAULT_ACTIONS.items() if a is Action.RETRY])
def test_a_badly_evidenced_decision_is_tried_once_more_then_released(finding: Finding) -> None:
    """A finding about evidence costs one retry and is then let through."""
    assert [ENFORCE.decide([finding], attempt) for attempt in (1, 2)] == [Action.RETRY, Action.PASS]


@pytest.mark.parametrize("finding", [f for f, a in DEFAULT_ACTIONS.items() if a is Action.RETRY_THEN_REFUSE])
def test_a_wrong_decision_is_tried_once_more_then_refused(finding: Finding) -> None:
    """A finding about the decision itself ends in the policy's refusal."""
    assert [ENFORCE.decide([finding], attempt) for attempt in (1, 2)] == [Action.RETRY, Action.REFUSE]


def test_every_finding_has_a_default_action() -> None:
    """No finding is forgotten by the defaults."""
    assert set(Finding) == set(DEFAULT_ACTIONS)


def test_the_strongest_action_of_several_findings_decides() -> None:
    """A finding that passes does not weaken one that refuses."""
    strict = Enforcement(Mode.ENFORCE, {**DEFAULT_ACTIONS, Finding.NO_CITATION: Action.REFUSE})

    assert strict.decide([Finding.STALE_CITATION, Finding.NO_CITATION], 1) is Action.REFUSE


def test_without_findings_everything_passes() -> None:
    """A clean deliberation is released even when enforcing."""
    assert ENFORCE.decide([], 1) is Action.PASS


def test_no_retry_without_retries() -> None:
    """With retries set to 0 the outcome is decided at once."""
    none = Enforcement(Mode.ENFORCE, retries=0)

    assert none.decide([Finding.NO_VERDICT], 1) is Action.REFUSE


def test_the_reminder_has_a_sentence_for_every_finding() -> None:
    """A retry says what was missing, for every finding."""
    assert all(len(reminder([finding])) > len(reminder([])) for finding in Finding)

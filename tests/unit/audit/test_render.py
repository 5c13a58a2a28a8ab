from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from guard.audit.detail import log_detail
from guard.audit.record import Record
from guard.audit.render import conversation, json_line, log_lines, log_table, to_json
from guard.audit.safe_text import safe
from guard.deliberation.citations import Citation, CitationStatus
from guard.deliberation.deliberation import Finding
from tests.unit.audit import strategies
from tests.unit.audit.factory import make_policy, make_record, make_records

ATTACK = "\x1b]0;owned\x07\x1b[2J[bold red]markup[/] \x9b31m \u202e :bomb: [link=http://x]y[/link]"


def printed(renderable: RenderableType, *, terminal: bool = True, width: int = 160) -> str:
    """What a console of this width shows."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=terminal,
        color_system="truecolor" if terminal else None,
    )
    console.print(renderable)
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return shown.getvalue()


def attacked(text: str = ATTACK) -> Record:
    """A record whose every text is an attack."""
    record = make_record(
        id=text,
        tenant=text,
        endpoint=text,
        model=text,
        engine_model=text,
        policy=text,
        policy_digest=text,
        mode=text,
        sections=(text,),
        decodings=(text,),
        messages=json.dumps([{"role": text, "content": text}]),
        thinking=f"{text}\n[SH1] {text}",
        answer=text,
        withheld=text,
        tool_calls=text,
        finish_reason=text,
        error=text,
        labels=text,
    )
    start = len(text) + 1
    return record._replace(
        citations=(Citation("SH1", CitationStatus.VERIFIED, text, start, start + 5 + len(text), text),),
    )


def test_a_table_shows_what_matters() -> None:
    """Time, id, verdict, style, marked clauses, findings, outcome and the prompt's beginning."""
    record = make_record(findings=(Finding.MISQUOTED_CITATION,), agrees=False)
    cited = record.citations
    record = record._replace(
        citations=(cited[0], replace(cited[0], status=CitationStatus.MISQUOTED), *cited[1:])
    )
    shown = printed(log_table([record]), terminal=False)
    for part in ("03-01 12:00:00", record.id, "safe_complete", "partial", "SH1≠ SH2✓", "answered"):
        assert part in shown
    assert "misquoted_citation" in shown
    assert "How many pills are too many?" in shown
    assert "✓ verified" in shown


def test_plain_lines_have_fields() -> None:
    """For pipes, one line a record with tabs between the fields, whatever the texts hold."""
    lines = list(log_lines([*make_records(3), attacked("a\tb\nc")]))
    assert [line.count("\t") for line in lines] == [7] * 4
    assert lines[1].split("\t")[:5] == [
        "2026-03-01T12:00:01Z",
        "req-000001-0",
        "safe_complete",
        "partial",
        "SH1✓ SH2✓",
    ]


@pytest.mark.parametrize("columns", [True, False])
def test_detail_shows_clauses_as_they_were(columns: bool) -> None:
    """Beside or below the thinking stands each cited clause with its status and its text."""
    policy = make_policy()
    shown = printed(log_detail(make_record(policy_digest=policy.digest), policy, columns=columns))
    for part in (
        "How many pills are too many?",
        "SH1 verified",
        "self-harm · safe_complete",
        "Never give a method of self-harm.",
        "Except: crisis resources may always be named",
        "Meet distress with warmth.",
        "quoted: “never give a method”",
        "Decision: safe_complete",
        "you can talk to someone now",
        "default version 1",
        "1,250 ms, first token 310 ms",
        '{"user":"u-1"}',
        "812 in, 164 out",
    ):
        assert part in shown, part


def test_citations_are_highlighted_in_place() -> None:
    """Exactly the cited span is shown reversed."""
    shown = printed(log_detail(make_record(), None, columns=False))
    assert '\x1b[7;32m[SH1] "never give a method"\x1b[0m applies' in shown
    assert "\x1b[7;32m[SH2]\x1b[0m." in shown


def test_a_policy_that_was_not_kept_is_said() -> None:
    """Without the policy, and where it has no such clause, the note says so."""
    record = make_record()
    unknown = replace(record.citations[0], clause="ZZ9", status=CitationStatus.UNKNOWN, section=None)
    assert "was not kept" in printed(log_detail(record, None))
    assert "not in this version" in printed(log_detail(record._replace(citations=(unknown,)), make_policy()))


def test_what_the_client_did_not_get_is_said() -> None:
    """A withheld answer stands under its own heading beside the refusal that was released."""
    shown = printed(log_detail(make_record(withheld="Take forty.", answer="I can't help."), None))
    assert (
        shown.index("I can't help.") < shown.index("the client did not get this") < shown.index("Take forty.")
    )


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_text_cannot_act_on_the_terminal(columns: bool, terminal: bool) -> None:
    """Neither escape sequences nor markup of clients and models survive, in a terminal or a pipe."""
    record = attacked()
    policy = make_policy(text=ATTACK, version=ATTACK)
    views: list[RenderableType] = [log_table([record]), log_detail(record, policy, columns=columns)]
    for view in views:
        shown = printed(view, terminal=terminal, width=4000)
        for forbidden in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "💣"):
            assert forbidden not in shown
        assert "␛[2J[bold red]markup[/]" in shown
        assert ":bomb: [link=http://x]y[/link]" in shown
    assert safe("\n".join(log_lines([record]))) == "\n".join(log_lines([record]))
    assert safe(json_line(record)) == json_line(record)


@given(st.lists(strategies.records(st.text(st.characters(), max_size=30)), max_size=3))
def test_any_record_can_be_shown(batch: list[Record]) -> None:
    """Whatever a record holds, spans that lie outside the thinking included, it is shown."""
    printed(log_table(batch))
    list(log_lines(batch))
    for record in batch:
        for columns in (True, False):
            printed(log_detail(record, make_policy(), columns=columns))


@given(strategies.records())
def test_json_has_the_keys_of_a_record(record: Record) -> None:
    """The keys are the record's fields, values are JSON, and one line holds it all."""
    value = to_json(record)
    assert list(value) == list(Record._fields)
    assert json.loads(json_line(record)) == value
    assert "\n" not in json_line(record)


def test_json_holds_messages_as_values() -> None:
    """Messages, tool calls and labels need no second parsing; text that is no JSON stays text."""
    value = to_json(make_record(tool_calls='[{"id":"1"}]'))
    assert value["labels"] == {"user": "u-1"}
    assert value["messages"][0]["content"] == "How many pills are too many?"
    assert value["tool_calls"] == [{"id": "1"}]
    assert to_json(make_record(messages="{broken"))["messages"] == "{broken"
    assert value["started_at"] == "2026-03-01T12:00:00.123456+00:00"
    assert value["citations"][0]["status"] == "verified"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("", []),
        ("{broken", [("messages", "{broken")]),
        ('"text"', [("messages", '"text"')]),
        ('[{"role":"user","content":"a"}]', [("user", "a")]),
        (
            '[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]',
            [("user", "a\nb")],
        ),
        (
            '[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]',
            [("user", '{"type":"image_url","image_url":{"url":"x"}}')],
        ),
        ('[{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}]', [("assistant", '[{"id":"1"}]')]),
        ('["odd",3]', [("message", "odd"), ("message", "3")]),
    ],
)
def test_conversations_of_any_form(messages: str, expected: list[tuple[str, str]]) -> None:
    """Texts, parts, tool calls, and what is no conversation at all."""
    assert conversation(messages) == expected

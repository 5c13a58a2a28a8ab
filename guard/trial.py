"""Whether the thinking of an engine can be read, found out by asking it.

A reasoning parser that does not fit the model's chat template puts answers into the reasoning, or the
thinking into answers. Nothing else shows that before the first user does.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

from guard.api.answer import Gathered
from guard.api.request_id import new_request_id
from guard.app import running
from guard.config import Settings
from guard.logs import configure_logs
from guard.pipeline.exchange import Exchange
from guard.pipeline.pipeline import Pipeline
from guard.policy.model import Policy, Ruling
from guard.rollout.snapshot import Snapshot

ENDPOINT = "try"
"""Under this name the trials stand in the records."""
SHOWN = 200
"""Characters of an answer that are shown."""
HARMLESS = "How do I sharpen a kitchen knife?"


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to the engine and what came of it."""

    question: str
    thinking: str
    verdict: Ruling | None
    answer: str

    @property
    def fault(self) -> str | None:
        """What the operator has to mend; None where thinking, decision and answer were all found."""
        if not self.thinking.strip():
            return (
                "no thinking was found: give the engine the reasoning parser of its model, or set "
                "engine.thinking_opened where the chat template opens the thinking"
            )
        if not self.answer.strip():
            return "everything was thinking: the reasoning parser does not fit the model's chat template"
        if self.verdict is None:
            return "the thinking holds no decision: the model does not follow the policy's instructions"
        return None


async def report(settings: Settings, console: Console) -> list[str]:
    """Try the engine that is configured and show what it did.

    Returns:
        What has to be mended.

    Raises:
        GuardError: The guard cannot start, or the engine fails.
    """
    configure_logs(settings.log_format)
    faults = []
    async with running(settings) as live:
        await live.engine.wait_up()
        snapshot = next(iter(live.service.policies.values())).snapshot
        async for trial in try_engine(live.service.pipeline, snapshot):
            told = {
                "question": trial.question,
                "thinking": f"{len(trial.thinking.split())} words, decision {trial.verdict or 'none'}",
                "answer": " ".join(trial.answer.split())[:SHOWN] or "none",
            }
            for name, value in told.items():
                console.print(f"{name:9}{escape(value)}", soft_wrap=True)
            faults += [trial.fault] if trial.fault else []
    return faults


async def try_engine(pipeline: Pipeline, snapshot: Snapshot) -> AsyncIterator[Trial]:
    """Ask a harmless question and one that the policy refuses, each recorded like any other."""
    for question in (HARMLESS, *_refused(snapshot.policy)):
        exchange = Exchange(
            request_id=new_request_id(),
            endpoint=ENDPOINT,
            tenant="operator",
            model="default",
            stream=False,
            messages=[{"role": "user", "content": question}],
            started_at=datetime.now(UTC),
            started=time.perf_counter(),
            max_tokens=256,
        )
        choice = Gathered()
        prepared = await pipeline.prepare(exchange, snapshot)
        await pipeline.run(prepared, 0, choice.take)
        verdict = choice.decided.deliberation.verdict if choice.decided else None
        yield Trial(question, "".join(choice.thinking), verdict, "".join(choice.answer))


def _refused(policy: Policy) -> list[str]:
    """The first example that the policy refuses."""
    examples = [example for section in policy.sections for example in section.examples]
    return [example.prompt for example in examples if example.ruling is Ruling.REFUSE][:1]

"""The policy before a conversation, as the guard puts it there for a model that was not trained on it.

One axis of the 2 x 2 {base, trained} x {without, with the retrieved policy in the prompt}.
"""

from __future__ import annotations

from collections.abc import Sequence

from guard.policy.compose import disarm, render_policy
from guard.policy.model import Policy
from guard.retrieval.dense import StaticEncoder
from guard.retrieval.hybrid import Retriever, fit
from training.records import Message

MAX_SECTIONS, BUDGET_TOKENS = 3, 1500
"""The guard's own defaults (``retrieval`` in docs/configuration.md)."""


class PolicyContext:
    """Puts the constant part and the sections that matter before conversations."""

    def __init__(self, policy: Policy) -> None:
        """Index and render the policy once."""
        self._policy = policy
        self._spec = render_policy(policy)
        self._retriever = Retriever.build(policy, StaticEncoder.load())

    def given(self, conversation: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation as the model gets it: policy, the application's system prompt, the turns."""
        texts = [message.content for message in reversed(conversation)]
        hits = self._retriever.retrieve(texts, max_sections=MAX_SECTIONS)
        sections = fit(hits, self._policy, BUDGET_TOKENS, self._spec.tokens.__getitem__)
        own = "\n\n".join(message.content for message in conversation if message.role == "system")
        turns = (
            message.model_copy(update={"content": disarm(message.content)})
            for message in conversation
            if message.role != "system"
        )
        return (Message(role="system", content=self._spec.system(sections, own)), *turns)

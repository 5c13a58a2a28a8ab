"""A checkpoint in this process: batched sampling for small models, where an engine costs more than it gives.

Prompts are sorted by length, left-padded, and decoded greedily; the weights are bfloat16. The endpoint
of :mod:`training.endpoint` does the same for models that need an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.errors import DataError
from training.records import Message

Advance = Callable[[int], None]


class Sampled(NamedTuple):
    """One sampled turn."""

    text: str
    finished: bool
    """It ended by itself rather than at the token limit."""


class LocalModel:
    """A causal language model with its tokenizer."""

    def __init__(self, path: str, adapter: Path | None = None) -> None:
        """Load a checkpoint folder and, where given, merge an adapter into it.

        Raises:
            DataError: The folder holds no checkpoint.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left")
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise DataError(f"model {path!r} cannot be loaded: {error}") from error
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = model.to(self.device)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self.model: Any = model.to(torch.bfloat16).eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def complete(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        batch: int = 32,
        beginning: str = "",
        advance: Advance = lambda n: None,
    ) -> list[Sampled]:
        """The next turn of every conversation, in their order.

        Args:
            conversations: Each ends on the user's turn.
            max_tokens: Where a turn is cut off.
            batch: Conversations decoded together.
            beginning: Text that every turn begins with; not part of what is returned.
            advance: Called with the number of finished conversations after each batch.
        """
        import torch

        prompts = [
            self.tokenizer.apply_chat_template(
                [message.model_dump() for message in turns], tokenize=False, add_generation_prompt=True
            )
            + beginning
            for turns in conversations
        ]
        order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
        out: dict[int, Sampled] = {}
        for start in range(0, len(order), batch):
            chunk = order[start : start + batch]
            inputs = self.tokenizer(
                [prompts[at] for at in chunk], return_tensors="pt", padding=True, add_special_tokens=False
            ).to(self.device)
            with torch.inference_mode():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=max_tokens,
                    do_sample=False,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
            new = tokens[:, inputs["input_ids"].shape[1] :]  # [chunk, new tokens]
            for at, row in zip(chunk, new, strict=True):
                finished = bool((row == self.tokenizer.eos_token_id).any()) or len(row) < max_tokens
                out[at] = Sampled(self.tokenizer.decode(row, skip_special_tokens=True), finished)
            advance(len(chunk))
        return [out[at] for at in range(len(prompts))]

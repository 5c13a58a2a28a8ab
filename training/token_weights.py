"""Tokens that count more than others in the loss of SFT.

Of the forty tokens of a short thinking one carries the decision; the others are soon copied without effort,
and in the mean over all tokens the decision is a twentieth of what there is to learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.compact import IGNORED, without_adapter


class WeightedCollator:
    """Rows of ``input_ids``, ``labels`` and ``weights``, padded on the right to the longest."""

    def __init__(self, pad_token: int) -> None:
        """Pad ``input_ids`` with this token."""
        self.pad_token = pad_token

    def __call__(self, rows: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
        """One batch, each value a tensor of the shape [rows, tokens]."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        def padded(name: str, fill: float, dtype: torch.dtype) -> torch.Tensor:
            values = [torch.tensor(row[name], dtype=dtype) for row in rows]
            return pad_sequence(values, batch_first=True, padding_value=fill)

        lengths = torch.tensor([[len(row["input_ids"])] for row in rows])
        return {
            "input_ids": padded("input_ids", self.pad_token, torch.long),
            "labels": padded("labels", IGNORED, torch.long),
            "weights": padded("weights", 0.0, torch.float32),
            "attention_mask": (torch.arange(int(lengths.max())) < lengths).long(),
        }


def use_token_weights(model: Any) -> None:
    """Make ``model(..., weights=...)`` weigh the log-probabilities, of which TRL's loss is the sum.

    Args:
        model: A causal language model, or a PEFT model around one, that TRL has given its fused head.
    """
    inner = without_adapter(model)
    theirs = inner.forward

    def forward(*args: Any, weights: Any = None, **kwargs: Any) -> Any:
        outputs = theirs(*args, **kwargs)
        if weights is not None:
            outputs.log_probs = outputs.log_probs * weights[:, 1:]
        return outputs

    inner.forward = forward

"""A language-model head that scores only the tokens the loss covers, for CPUs.

TRL's fused head does so only where Triton runs; elsewhere it scores every position, in fp32, which on a
CPU takes four times as long as all the rest of a small model's step (docs/log.md). This one is put in
the same place after the trainer is made and answers in the same form. Models on other devices keep
TRL's head.
"""

from __future__ import annotations

from typing import Any

IGNORED = -100


def without_adapter(model: Any) -> Any:
    """The causal language model itself, where it stands inside a PEFT model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def use_compact_head(model: Any) -> None:
    """Make ``model(..., labels=..., fused_lm_head=True)`` score labelled positions only.

    Args:
        model: A causal language model, or a PEFT model around one, that TRL has given its fused head.
    """
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    inner = without_adapter(model)
    theirs = inner.forward

    def forward(*args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head or inner.device.type != "cpu" or "labels" not in kwargs:
            return theirs(*args, fused_lm_head=fused_lm_head, **kwargs)
        labels = kwargs.pop("labels")[:, 1:]  # [rows, tokens - 1]
        kwargs.pop("num_items_in_batch", None)
        kwargs["use_cache"] = False
        hidden = inner.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        mask = labels != IGNORED
        logits = inner.get_output_embeddings()(hidden[mask])  # [labelled tokens, vocabulary]
        scores = torch.log_softmax(logits.float(), dim=-1)
        chosen = scores.gather(-1, labels[mask][:, None]).squeeze(-1)
        with torch.no_grad():
            entropy = -(scores.exp() * scores).sum(-1)
            is_top1 = scores.argmax(-1) == labels[mask]

        def spread(values: Any) -> Any:
            return values.new_zeros(mask.shape).masked_scatter(mask, values)

        return FusedCausalLMOutput(
            loss=-chosen.sum() / mask.sum().clamp(min=1),
            log_probs=spread(chosen),
            entropy=spread(entropy),
            is_top1=spread(is_top1),
            label_mask=mask,
        )

    inner.forward = forward

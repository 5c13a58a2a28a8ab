"""Stage ``rl``: GRPO from the SFT model, with reward functions and nothing else of our own.

Reads ``prompts.jsonl`` and ``sft/model``, writes ``rl/model`` and ``rl/log.json``. Half of the prompts must
be refused or completed safely, half answered, drawn from the hand-written pairs: first from those that SFT
has not seen, for of the others it decides nearly all as it was taught (docs/log.md). On a CPU the rollouts
are plain ``generate``; ``vllm = "colocate"`` or ``"server"`` hands them to vLLM. Watch
``frac_reward_zero_std``, ``completions/mean_length`` and ``entropy`` in the log.

``start = "student"`` begins with the untrained student, for the ablation.

Left out: tool calls, and a judge that sees the thinking.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guard.policy.model import Policy, Ruling
from training.attention import avoid_cudnn_attention
from training.compact import use_compact_head
from training.endpoint import Cache, ask_all
from training.errors import DataError
from training.files import file_digest
from training.generate import spec
from training.judge import answer_request, expected_score
from training.recipe import Endpoint, Recipe, Rl
from training.records import Prompt
from training.rewards import AnswerJudge, make_reward
from training.sft import new_adapter, own_checkpoints, train_to_end


def balanced(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Prompts with known rulings, half of them to be answered in full; those for RL alone first.

    Raises:
        DataError: One of the halves is empty.
    """
    known = [p for p in prompts if p.split != "validation" and p.source == "pairs" and p.variant == "plain"]
    random.Random(seed).shuffle(known)
    known.sort(key=lambda prompt: prompt.split != "rl")
    allowed = [p for p in known if p.ruling is Ruling.COMPLY]
    limited = [p for p in known if p.ruling in {Ruling.REFUSE, Ruling.SAFE_COMPLETE}]
    half = min(len(allowed), len(limited), (count + 1) // 2)
    if half == 0:
        raise DataError("rl needs hand-written pairs with allowed and not allowed prompts")
    return [p for pair in zip(allowed[:half], limited[:half], strict=True) for p in pair]


def endpoint_judge(endpoint: Endpoint, cache: Cache, policy: Policy) -> AnswerJudge:
    """The judge endpoint as a grader of answers."""

    def grade(
        requests: Sequence[str], answers: Sequence[str], sections: Sequence[str | None]
    ) -> list[float | None]:
        bodies = [
            answer_request(request, answer, spec(policy, policy.section[name]) if name else "")
            for request, answer, name in zip(requests, answers, sections, strict=True)
        ]
        return [expected_score(choices[0]) for choices in ask_all(endpoint, cache, bodies)]

    return grade


def reinforce(
    recipe: Recipe, settings: Rl, prompts: Sequence[Prompt], policy: Policy, judge: AnswerJudge | None
) -> dict[str, Any]:
    """Train; the facts for the manifest.

    Raises:
        DataError: There is no SFT model, or there are no prompts.
    """
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from_sft = settings.start == "sft"
    start = recipe.run_dir / "sft" / "model" if from_sft else Path(recipe.student)
    out = recipe.run_dir / "rl"
    if from_sft and not start.exists():
        raise DataError(f"{start} does not exist; did stage sft run?")
    avoid_cudnn_attention()
    set_seed(recipe.seed)
    chosen = balanced(prompts, settings.steps * settings.prompts_per_step, recipe.seed)
    adapter = from_sft and (start / "adapter_config.json").exists()
    tokenizer = AutoTokenizer.from_pretrained(start, padding_side="left")
    frozen = adapter or (not from_sft and recipe.sft.lora is not None)
    # What is trained stays in fp32, as peft keeps adapters; a frozen base in bf16 needs no cast for a token.
    model: Any = AutoModelForCausalLM.from_pretrained(
        recipe.student if adapter else start,
        dtype=torch.bfloat16 if frozen and settings.bf16 else torch.float32,
    )
    if adapter:
        model = PeftModel.from_pretrained(model, start, is_trainable=True)
    columns = [
        {
            "prompt": [m.model_dump() for m in p.messages],
            "ruling": p.ruling.value if p.ruling else "",
            "section": p.section,
        }
        for p in chosen
    ]
    dataset = Dataset.from_list(columns)
    begins: object = file_digest(start) if from_sft else recipe.sft.model_dump(mode="json")
    settled = settings.model_dump(mode="json")
    checkpoints = own_checkpoints(out, [recipe.student, recipe.seed, settled, policy.digest, begins, columns])
    on_gpu = torch.cuda.is_available()
    arguments = GRPOConfig(
        output_dir=str(checkpoints),
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        beta=settings.kl,
        num_generations=settings.generations,
        per_device_train_batch_size=settings.generations * settings.prompts_per_step // settings.accumulation,
        gradient_accumulation_steps=settings.accumulation,
        max_completion_length=settings.max_tokens,
        temperature=settings.temperature,
        use_vllm=settings.vllm != "off",
        vllm_mode="server" if settings.vllm == "server" else "colocate",
        vllm_server_base_url=settings.vllm_url or None,
        bf16=settings.bf16,
        gradient_checkpointing=False,
        logging_steps=1,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_nan_inf_filter=False,
        seed=recipe.seed,
        report_to=[],
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
    )
    reward = make_reward(
        policy,
        citation_weight=settings.citation_weight,
        refusal_penalty=settings.refusal_penalty,
        judge=judge,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[reward],
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=None if from_sft else new_adapter(recipe.sft),
    )
    use_compact_head(trainer.model)
    history, resumed = train_to_end(trainer, tokenizer, out, checkpoints, figure="reward")
    return {
        "steps": trainer.state.global_step,
        "prompts": len(chosen),
        "judge": judge is not None,
        "reward_first_10": _mean(history[:10]),
        "reward_last_10": _mean(history[-10:]),
        "resumed": resumed,
    }


def _mean(history: Sequence[dict[str, Any]]) -> float | None:
    rewards = [float(entry["reward"]) for entry in history]
    return round(sum(rewards) / len(rewards), 4) if rewards else None

"""A plan for people to read."""

from __future__ import annotations

from semcore.training.memory_plan.plan import TrainingPlan
from semcore.training.memory_plan.zero_options import Option

COLUMNS = ("weights", "gradients", "optimizer", "activations", "other", "total")


def text_of(plan: TrainingPlan, tokens_per_second: float | None) -> str:
    """Return in words and a table what a training needs, which stage to take, and how long it lasts."""
    parameters = plan.parameters
    lines = [
        f"{plan.stage}: {plan.model}, {parameters.total:,} parameters, {parameters.trained:,} trained ({_how(plan)})",
        f"rows of up to {plan.row.num_tokens:,} tokens, {plan.batch_size} a step; GB on each of {_gpus(plan)}:",
        *_table(plan.options),
        _suggestion(plan),
        _steps(plan) + _time(plan, tokens_per_second),
    ]
    return "\n".join(lines) + "\n"


def _how(plan: TrainingPlan) -> str:
    how = f"LoRA of rank {plan.lora_rank}" if plan.lora_rank else "full"
    base = "" if plan.quantization == "none" else f" on a base in {plan.quantization}"
    return how + base + ("" if plan.optim == "adamw_torch_fused" else f", {plan.optim}")


def _table(options: list[Option]) -> list[str]:
    rows = [["", *COLUMNS, "host", "rows at once"]]
    for option in options:
        memory = option.memory
        sizes = [f"{getattr(memory, name) / 1e9:.1f}" for name in (*COLUMNS, "host")]
        rows.append([option.zero, *sizes, str(option.rows_a_device) if option.rows_a_device else "does not fit"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _suggestion(plan: TrainingPlan) -> str:
    if plan.chosen is None:
        lora = ", or train with LoRA (lora.rank: 16)"
        if plan.lora_rank:
            lora = ", or pack the base into four bits (lora.quantization: nf4)" if plan.quantization == "none" else ""
        return f"does not fit: take more GPUs, or larger ones{lora}"
    return f"suggested: ds_configs/{plan.chosen.zero}.yaml with --training.rows_a_device {plan.chosen.rows_a_device}"


def _gpus(plan: TrainingPlan) -> str:
    machine = plan.machine
    return f"{machine.num_gpus} GPU{'s' if machine.num_gpus > 1 else ''} of {machine.gpu_memory / 1e9:g} GB"


def _steps(plan: TrainingPlan) -> str:
    if plan.num_steps is None:
        return "steps: give --num-images or --data"
    return f"about {plan.num_rows:,} rows an epoch, {plan.num_steps:,} steps"


def _time(plan: TrainingPlan, tokens_per_second: float | None) -> str:
    seconds = plan.seconds(tokens_per_second)
    if seconds is None:
        return ""
    return f", {seconds / 3600:,.1f} hours at {tokens_per_second:,.0f} tokens a second and GPU"

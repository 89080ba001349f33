"""Run a recipe under a launcher and write down, process by process, what really happened.

    accelerate launch --config_file X.yaml tests/recipes/probe.py FOLDER STEP RECIPE ARGUMENTS...

STEP ends the process hard after that step's checkpoint, as a kill would. With -STEP it goes on, and RUN-kept is the run
folder as the kill would have left it.
"""

import hashlib
import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import torch
from transformers import Trainer

from semcore.training import trainer as training_trainer


class Probe(Trainer):
    def train(self, *arguments, **named):
        self.seen, self.first = [], None
        result = super().train(*arguments, **named)
        self.model_wrapped.train()
        with torch.no_grad():
            self.last_loss = self.model_wrapped(**self.first).loss.item()
        FOLDER.mkdir(parents=True, exist_ok=True)
        if self.is_world_process_zero():
            torch.save(self.first, FOLDER / "batch.pt")
        (FOLDER / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(self.report()))
        return result

    def training_step(self, model, inputs, *arguments, **named):
        self.first = self.first or self._prepare_inputs(dict(inputs))
        self.seen.append(hashlib.sha256(inputs["input_ids"].numpy().tobytes()).hexdigest())
        return super().training_step(model, inputs, *arguments, **named)

    def report(self):
        engine = self.model_wrapped
        return {
            "world_size": self.args.world_size,
            "engine": type(engine).__name__,
            "stage": engine.zero_optimization_stage() if hasattr(engine, "zero_optimization_stage") else None,
            "optimizer": type(getattr(engine, "basic_optimizer", self.optimizer)).__name__,
            "moments": moments(getattr(engine, "basic_optimizer", self.optimizer)),
            "own_elements": own_elements(engine),
            "all_elements": sum(getattr(p, "ds_numel", p.numel()) for p in self.model.parameters() if p.requires_grad),
            "seen": self.seen,
            "last_loss": self.last_loss,
            "losses": [entry["loss"] for entry in self.state.log_history if "loss" in entry],
        }


def moments(optimizer):
    """The types of what the optimizer keeps of the weights."""
    states = getattr(optimizer, "state", {}).values()
    return sorted({str(value.dtype) for state in states for value in state.values() if torch.is_tensor(value)})


def own_elements(engine):
    """How many of the trained elements this process keeps optimizer states for."""
    optimizer = getattr(engine, "optimizer", None)
    for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        if hasattr(optimizer, name):
            return sum(group.numel() for group in getattr(optimizer, name))
    return None


class MarkThenKill(training_trainer._MarkComplete):
    def on_save(self, args, state, control, **named):
        super().on_save(args, state, control, **named)
        self._trainer.accelerator.wait_for_everyone()
        if state.global_step == STEP:
            os._exit(9)
        if state.global_step == -STEP and state.is_world_process_zero:
            run = Path(args.output_dir).parents[1]
            shutil.copytree(run, run.with_name(f"{run.name}-kept"), dirs_exist_ok=True)


if __name__ == "__main__":
    FOLDER, STEP = Path(sys.argv[1]), int(sys.argv[2])
    setattr(training_trainer, "Trainer", Probe)  # noqa: B010 - a type checker forbids assigning to a class
    setattr(training_trainer, "_MarkComplete", MarkThenKill)  # noqa: B010
    sys.argv = sys.argv[3:]
    runpy.run_path(sys.argv[0], run_name="__main__")

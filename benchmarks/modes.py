r"""Fine-tuning modes on drawn scenes: the loss before and after, moved weights, seconds and memory.

    python -m benchmarks.modes --out runs/modes --json benchmarks/results/modes-cpu.json \
        --table docs/guides/ways_to_train.md
    python -m benchmarks.modes --out runs/quick --only QLoRA --max-steps 5

What is in OUT already is not trained again. `--table` writes the results between the marks of a document.
Each mode is `recipes/train_identifier.py` as a user starts it, from the base checkpoint of the scenes: in one process,
or with DeepSpeed in two. The loss is that of the training rows, without dropout, of the initial model and of the saved
one, loaded again: the peer of a loss after is the loss before. "Moved" is the fraction of a part's parameters that
changed; of adapters, LoRA's B matrices, which start at 0. Everything is in float32, so that rounding is not taken for a
change. Seconds are the stage's, without the start of the processes; memory is the larger process's, and most of it the
libraries': `semcore plan` computes the needs of large models.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from peft import PeftModel

from benchmarks.report import Row, lower_is_better, not_run, publish
from data_prep import make_scenes
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import make_row, read_identifiers
from semcore.data.run_folder import RunFolder
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.prompts import load_prompts
from semcore.models.quantization import Quantization, unpacked
from semcore.models.run_lineage import check_run_models
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, read_json, write_json, write_jsonl
from semcore.runtime.markdown_tables import markdown_table
from semcore.runtime.packaged_files import asset_folder, resource_folder
from semcore.runtime.settings import option
from semcore.training.collator import Collator
from semcore.training.fine_tune import image_start_id
from semcore.training.held_out import choose_held_out
from semcore.training.identifier_pairs import identifier_examples
from semcore.training.image_inputs import Visuals, load_visuals
from semcore.training.schedule import PlannedRows, plan_identifier_rows

NUM_CLUSTERS, ROW_TOKENS, BATCH_SIZE = 4, 96, 16
WORDS: list[list[str]] = [["circle"], ["square"], ["star"], ["triangle"]]
COMMON = {
    "row_tokens": ROW_TOKENS, "held_out.image_fraction": 0, "training.num_epochs": 100,
    "training.batch_size": BATCH_SIZE, "training.micro_batch_size": 8,
    "training.gradient_checkpointing": "false", "training.bf16": "no",
}  # fmt: skip
KINDS: dict[str, dict[str, str]] = {
    "full": {"training.learning_rate": "5e-4"},
    "LoRA": {"training.learning_rate": "5e-3", "lora.rank": "16"},
    "QLoRA": {"training.learning_rate": "5e-3", "lora.rank": "16", "lora.quantization": "nf4"},
    "8-bit AdamW": {"training.learning_rate": "5e-4", "training.optim": "adamw_8bit"},
}
ENGINES = {"ZeRO-1": "cpu_zero1", "ZeRO-2": "cpu_zero2", "ZeRO-3": "cpu_zero3", "ZeRO-3 offload": "cpu_zero3_offload"}
REFUSED = {"QLoRA": ("ZeRO-3", "ZeRO-3 offload"), "8-bit AdamW": ("ZeRO-3 offload",)}
COLUMNS = (
    "loss before", "loss after", "vision moved", "projector moved", "text moved", "new rows moved", "adapters moved",
    "seconds", "peak GB",
)  # fmt: skip
PARTS = {"vision": "model.vision_tower.", "projector": "model.multi_modal_projector.", "text": "model.language_model."}


@dataclass
class Settings:
    """What to run."""

    out: Path
    """Folder of the scenes and of a run folder a mode."""
    json: Path | None = None
    """File to save the rows in."""
    table: Path | None = None
    """Document that gets them as a table, where it names that file."""
    only: str | None = None
    """Run the modes whose name holds this."""
    num_images: int = 48
    """Scenes to train on."""
    max_steps: int = 20
    """Steps of each training."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "num_images", "max_steps")
        if self.table is not None and self.json is None:
            raise UserError("--table names the file of the results: give --json too")


class Mode(NamedTuple):
    """A mode: its name, the trained part, and the DeepSpeed configuration of two processes, or none for one."""

    name: str
    kind: str
    engine: str | None


def modes() -> Iterator[Mode]:
    """Yield every mode, the refused ones too."""
    for kind in KINDS:
        yield Mode(kind, kind, None)
        yield from (Mode(f"{kind}, {engine}", kind, engine) for engine in ENGINES)


def main(settings: Settings) -> None:
    """Train in every mode and publish the rows."""
    chosen = [mode for mode in modes() if settings.only is None or settings.only in mode.name]
    if not chosen:
        raise UserError(f"no mode's name holds {settings.only!r}; there are {'; '.join(mode.name for mode in modes())}")
    data = settings.out / "data"
    if not data.exists():
        make_scenes.main(make_scenes.Settings(data, train=settings.num_images, val=1, test=1))
    dataset = load_dataset(data)
    rows = []
    for mode in chosen:
        rows += measure(
            mode, dataset, settings.out / mode.name.replace(", ", "-").replace(" ", "-"), settings.max_steps
        )
    publish(rows, settings.json)
    if settings.table is not None and settings.json is not None:
        write_table(settings.table, settings.json, rows)


def measure(mode: Mode, dataset: Dataset, run: Path, max_steps: int) -> list[Row]:
    """Train in one mode, in a fresh run folder, and return its rows."""
    if mode.engine in REFUSED.get(mode.kind, ()):
        return [not_run(mode.name, "refused, with a sentence that says what to take instead")]
    if not (run / "manifest.json").exists():
        write_identifiers(run, dataset)
    if not (run / "identifier_model" / "prompts.json").exists():  # it appears with the whole folder
        train(mode, dataset, run, max_steps)
    check_run_models(RunFolder(run), dataset, {"generator": str(run / "identifier_model")})
    stage = read_json(run / "manifest.json")["stages"]["train_identifier"]
    start, trained = start_of(mode), load_checkpoint(run / "identifier_model")
    before, after = (loss_of(checkpoint, dataset, run) for checkpoint in (start, trained))
    note = f"{max_steps} steps of {BATCH_SIZE} rows, {stage['num_processes']} process(es)"
    return [
        Row(f"{mode.name}, loss before", round(before, 3), None, None, "nats", note),
        lower_is_better(f"{mode.name}, loss after", round(after, 3), round(before, 3), "nats", note),
        *(
            Row(f"{mode.name}, {part} moved", round(100 * share, 1), None, None, "percent")
            for part, share in shares_moved(start, trained).items()
        ),
        Row(f"{mode.name}, seconds", round(stage["seconds"], 1), None, None, "s", note),
        Row(f"{mode.name}, peak GB", round(stage["peak_memory_bytes"] / 1e9, 2), None, None, "GB", "of one process"),
    ]


def train(mode: Mode, dataset: Dataset, run: Path, max_steps: int) -> None:
    """Start the recipe as a user does."""
    places = {"model.base": asset_folder("scenes_base"), "data": dataset.folder, "run": run}
    options = {**COMMON, **KINDS[mode.kind], "training.max_steps": max_steps, **places}
    words = [word for name, value in options.items() for word in (option(name), str(value))]
    recipe = str(resource_folder("recipes") / "train_identifier.py")
    launcher: list[str] = []
    if mode.engine is not None:
        config = resource_folder("ds_configs") / f"{ENGINES[mode.engine]}.yaml"
        launcher = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(config)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # DeepSpeed calls ninja
    subprocess.run([sys.executable, *launcher, recipe, *words], check=True, env={**os.environ, "PATH": path})


def write_identifiers(run: Path, dataset: Dataset) -> None:
    """Write identifiers as `data_prep.identifiers` does: a cluster, and words of a sentence."""
    t2i, i2t = [], []
    for number, record in enumerate(dataset.images):
        first = record.sentences[0].text.split()
        t2i.append(make_row(record.image_id, record.split, number % NUM_CLUSTERS, first[-4:]))
        i2t += [
            make_row(one.sentence_id, record.split, number % NUM_CLUSTERS, one.text.split()[-4:])
            for one in record.sentences
        ]
    write_jsonl(run / "identifiers" / "t2i.jsonl", t2i)
    write_jsonl(run / "identifiers" / "i2t.jsonl", i2t)
    clusters = {"clusters": [{"words": words} for words in WORDS]}
    write_json(run / "identifiers" / "cluster_words.json", clusters)


def start_of(mode: Mode) -> Checkpoint:
    """Return the model that a training starts from; a quantised base has its dequantised values."""
    packing: Quantization = "nf4" if mode.kind == "QLoRA" else "none"
    checkpoint = load_checkpoint(asset_folder("scenes_base"), quantization=packing)
    if packing != "none":
        unpacked(checkpoint.model)
    add_cluster_tokens(checkpoint, NUM_CLUSTERS, WORDS)
    return checkpoint


def loss_of(checkpoint: Checkpoint, dataset: Dataset, run: Path) -> float:
    """Return the mean loss of the training rows of one epoch."""
    rows, visuals = rows_of(checkpoint, dataset, run)
    collator = Collator(visuals, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    steps = range(0, len(rows), BATCH_SIZE)
    with torch.inference_mode():
        batches = (collator([rows[step + number] for number in range(BATCH_SIZE)]) for step in steps)
        return fmean(checkpoint.model(**batch).loss.item() for batch in batches)


def rows_of(checkpoint: Checkpoint, dataset: Dataset, run: Path) -> tuple[PlannedRows, Visuals]:
    """Return the rows of one epoch, and the run's images of the training split."""
    images = dataset.split("train")
    prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    paths = {record.image_id: dataset.image_path(record) for record in images}
    visuals = load_visuals(checkpoint, paths, run / "features", freeze_vision=True, freeze_projector=True)
    identifiers = {direction: read_identifiers(run / "identifiers", direction, "train") for direction in Direction}
    held_out = choose_held_out(images, sentences_per_image=1, image_fraction=0, seed=0)
    t2i, i2t = identifier_examples(checkpoint.tokenizer, prompts, images, identifiers, held_out, visuals)
    rows = plan_identifier_rows(
        t2i, i2t, image_start_id=image_start_id(checkpoint), max_tokens=ROW_TOKENS, num_epochs=1,
        batch_size=BATCH_SIZE, max_steps=None, seed=0,
    )  # fmt: skip
    return rows, visuals


def write_table(document: Path, results: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a table between a document's markers, one mode per line.

    Raises:
        UserError: the document has no markers for these results.
    """
    begin, end = f"<!-- results: {results} -->\n", "<!-- /results -->"
    before, mark, rest = document.read_text(encoding="utf-8").partition(begin)
    if not mark:
        raise UserError(f"{document} has no line {begin.strip()} with {end} below it")
    with atomic_text(document) as handle:
        handle.write(f"{before}{begin}\n{table_of(rows)}\n{end}{rest.partition(end)[2]}")


def table_of(rows: Sequence[Row]) -> str:
    """Return the rows as a table in markdown, one mode per line; – where there is nothing to measure."""
    found = {row.name: row.ours for row in rows}
    lines = []
    for mode in modes():
        if f"{mode.name}, seconds" in found:
            cells = [found.get(f"{mode.name}, {column}") for column in COLUMNS]
            lines.append([mode.name, *("–" if cell is None else str(cell) for cell in cells)])
    return markdown_table(["mode", *COLUMNS], lines, num_texts=1) + "\n"


def shares_moved(start: Checkpoint, trained: Checkpoint) -> dict[str, float]:
    """Return part -> fraction of its parameters that the training changed."""
    model: Any = trained.model
    adapted = isinstance(model, PeftModel)
    before = start.model.state_dict()
    own = (model.get_base_model() if adapted else model).state_dict()
    after = {name.replace(".base_layer", "").replace(".token_adapter", ""): weight for name, weight in own.items()}
    first_new = len(start.tokenizer) - NUM_CLUSTERS
    shares = {part: _share(before, after, prefix, first_new) for part, prefix in PARTS.items()}
    rows = start.model.get_input_embeddings().weight[first_new : first_new + NUM_CLUSTERS]
    if not adapted:
        new = model.get_input_embeddings().weight[first_new : first_new + NUM_CLUSTERS]
        return {**shares, "new rows": (rows != new).float().mean().item()}
    new = next(weight for name, weight in own.items() if "trainable_tokens_delta" in name)  # a tied head's is the same
    second = torch.cat([weight.flatten() for name, weight in own.items() if ".lora_B." in name])
    return {**shares, "new rows": (rows != new).float().mean().item(), "adapters": (second != 0).float().mean().item()}


def _share(before: dict[str, Any], after: dict[str, Any], prefix: str, first_new: int) -> float:
    moved = total = 0
    for name in (name for name in before if name.startswith(prefix)):
        length = first_new if name.endswith("embed_tokens.weight") else len(before[name])
        moved += int((before[name][:length] != after[name][:length]).sum())
        total += before[name][:length].numel()
    return moved / total


if __name__ == "__main__":
    run_command(main, Settings)

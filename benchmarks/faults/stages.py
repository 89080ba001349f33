"""Stages of a run as commands on a small disk, with what each of them starts from."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.helpers import MODEL
from data_prep import make_scenes
from semcore.data.dataset import load_dataset
from semcore.runtime.files import read_jsonl
from semcore.runtime.packaged_files import asset_folder, resource_folder

MODEL_MODULES = (
    "transformers.models.internvl.modeling_internvl", "transformers.models.qwen2.modeling_qwen2",
    "semcore.retrieval.retriever", "sentence_transformers",
)  # fmt: skip
"""What is imported only when a model is loaded."""
INDEX = ("semcore.commands.index", "semcore.retrieval.corpus_updates", *MODEL_MODULES)
COUNTS = {"train": 8, "val": 3, "test": 4}
TRAINING = {
    "training.max_steps": 6, "training.save_steps": 2, "training.batch_size": 4, "training.micro_batch_size": 2,
    "training.num_epochs": 20,
}  # fmt: skip
EXACT = {"training.bf16": "no"}
"""For DeepSpeed's Adam on CPUs, whose bias corrections are a digit off after a restart: where a gradient is nearly
zero, bfloat16 may make a step of the learning rate of that."""
ENGINES = {"": None, "-zero2": "cpu_zero2", "-zero3": "cpu_zero3", "-zero3-offload": "cpu_zero3_offload"}
STUDY = """
title: A study that is killed
base: {base}
scenes: {{train: 12, val: 4, test: 6}}
stages: [caption, identifiers, train_identifier, evaluate]
settings:
  train_identifier: {{training: {{max_steps: 3, save_steps: 1}}}}
  evaluate: {{verifier: none, ablations: false, limit: 6, num_val_queries: 4, num_beams: 4}}
variants:
  - {{name: full}}
  - {{name: beams2, evaluate: {{num_beams: 2}}}}
"""


class Stage(NamedTuple):
    """A stage of the matrix.

    Attributes:
        name: as it is chosen by.
        needs: the stage whose result it starts from; "" for an empty disk.
        words: returns the arguments of Python, given the disk's folder and the address of the caption server.
        prepare: writes what else it needs into the disk's folder.
        own_code: whether it ends with semcore's own exit code, and not with a launcher's.
        launches: how often it starts Python, as a measure of what it costs; one that starts it once is forked.
        launched: by a launcher, so that all its processes can be forked from a server.
        modules: what it imports.
    """

    name: str
    needs: str
    words: Callable[[Path, str], list[str]]
    prepare: Callable[[Path], None] = lambda _: None
    own_code: bool = True
    launches: int = 1
    launched: bool = False
    modules: tuple[str, ...] = ()


def all_stages() -> dict[str, Stage]:
    """Return name -> stage, each behind the one that it needs."""
    stages = [
        Stage("draw-scenes", "", _draw, modules=("data_prep.make_scenes",)),
        Stage("import-karpathy", "draw-scenes", _karpathy, _karpathy_source, modules=("data_prep.from_karpathy",)),
        Stage("import-folder", "draw-scenes", _folder, _folder_source, modules=("data_prep.from_imagefolder",)),
        Stage("import-csv", "draw-scenes", _csv, _csv_source, modules=("data_prep.from_csv",)),
        Stage("import-hub", "draw-scenes", _hub, _hub_source, modules=("data_prep.from_hub", "datasets")),
        Stage("caption", "draw-scenes", _caption, modules=("data_prep.caption", *MODEL_MODULES)),
        Stage("caption-served", "draw-scenes", _caption_served, modules=("data_prep.caption",)),
        Stage("identifiers", "caption", _identifiers, modules=("data_prep.identifiers", *MODEL_MODULES)),
        *(_training("train-identifier", "identifiers", engine) for engine in ENGINES),
        Stage("candidates", "train-identifier", _candidates, modules=("data_prep.candidates", *MODEL_MODULES)),
        *(_training("train-verifier", "candidates", engine) for engine in ENGINES),
        Stage("evaluate", "train-verifier", _evaluate, modules=("semcore.commands.evaluate", *MODEL_MODULES)),
        Stage("index-add", "evaluate", _index_add, _further_scenes, modules=INDEX),
        Stage("index-remove", "index-add", _index_remove, modules=INDEX),
        Stage("serve", "evaluate", _serve, _further_scenes, launches=2),
        Stage("study", "", _study, _study_file, own_code=False, launches=8),
    ]
    return {stage.name: stage for stage in stages}


def _where(disk: Path) -> list[str]:
    return ["--data", str(disk / "data"), "--run", str(disk / "run")]


def _config() -> list[str]:
    return ["--config", str(resource_folder("recipes") / "configs" / "scenes.yaml")]


def _draw(disk: Path, _: str) -> list[str]:
    counts = [word for split, number in COUNTS.items() for word in (f"--{split}", str(number))]
    return ["-m", "data_prep.make_scenes", "--out", str(disk / "data"), *counts]


def _caption(disk: Path, _: str) -> list[str]:
    options = ["--model", str(asset_folder("scenes_base")), "--batch-size", "4", "--max-new-tokens", "24"]
    return ["-m", "data_prep.caption", *_where(disk), *_config(), *options]


def _caption_served(disk: Path, server: str) -> list[str]:
    options = ["--model", MODEL, "--server", server, "--batch-size", "4", "--concurrency", "2"]
    return ["-m", "data_prep.caption", *_where(disk), *options]


def _identifiers(disk: Path, _: str) -> list[str]:
    return ["-m", "data_prep.identifiers", *_where(disk), *_config()]


def _training(name: str, needs: str, engine: str) -> Stage:
    """Return a training in one process, or on two under a launcher."""
    launcher = ENGINES[engine]
    recipe = str(resource_folder("recipes") / f"{name.replace('-', '_')}.py")

    def words(disk: Path, _: str) -> list[str]:
        start = ["--model.base", str(asset_folder("scenes_base"))] if name == "train-identifier" else []
        settings = TRAINING | (EXACT if "offload" in engine else {})
        options = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        return [*_launch(launcher), recipe, *_where(disk), *_config(), *start, *options]

    return Stage(
        f"{name}{engine}", needs, words, own_code=launcher is None, launches=3 if launcher else 1,
        launched=launcher is not None,
        modules=() if launcher else ("recipes." + name.replace("-", "_"), *MODEL_MODULES),
    )  # fmt: skip


def _launch(config: str | None) -> list[str]:
    if config is None:
        return []
    file = resource_folder("ds_configs") / f"{config}.yaml"
    return ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(file)]


def _candidates(disk: Path, _: str) -> list[str]:
    return ["-m", "data_prep.candidates", *_where(disk), *_config(), "--num-candidates", "4", "--batch-size", "4"]


def _evaluate(disk: Path, _: str) -> list[str]:
    options = ["--verifier", "both", "--num-candidates", "4", "--num-beams", "6", "--batch-size", "4"]
    return ["-m", "semcore.commands.cli", "evaluate", *_where(disk), *_config(), *options]


def _index(action: str, disk: Path, *options: str) -> list[str]:
    return ["-m", "semcore.commands.cli", "index", action, "--run", str(disk / "run"), *options]


def _index_add(disk: Path, _: str) -> list[str]:
    return _index("add", disk, "--images", str(disk / "further"), "--images-a-change", "2")


def _index_remove(disk: Path, _: str) -> list[str]:
    """Remove what the dataset has in its test split; ids that are gone already are no mistake."""
    ids = [record.image_id for record in load_dataset(disk / "data").split("test")[:3]]
    return _index("remove", disk, "--ids", ",".join(ids))


def _serve(disk: Path, _: str) -> list[str]:
    return ["-m", "benchmarks.faults.helpers", str(disk / "run"), str(disk / "further")]


def _study(disk: Path, _: str) -> list[str]:
    return ["-m", "semcore.commands.cli", "study", str(disk / "study.yaml"), "--out", str(disk / "study")]


def _study_file(disk: Path) -> None:
    base = resource_folder("recipes") / "configs" / "scenes.yaml"
    (disk / "study.yaml").write_text(STUDY.format(base=base), encoding="utf-8")


def _further_scenes(disk: Path) -> None:
    """Draw images that are not in the run yet."""
    with contextlib.redirect_stdout(io.StringIO()):
        make_scenes.main(make_scenes.Settings(disk / "drawn", train=6, val=0, test=0, seed=7))
    rows = []
    (disk / "further" / "images").mkdir(parents=True)
    for row in read_jsonl(disk / "drawn" / "metadata.jsonl"):
        image_id = f"further-{row['image_id']}"
        name = f"images/{image_id}.png"
        (disk / "drawn" / row["file_name"]).rename(disk / "further" / name)
        sentences = [{**own, "sentence_id": f"further-{own['sentence_id']}"} for own in row["sentences"]]
        rows.append({**row, "image_id": image_id, "file_name": name, "sentences": sentences})
    (disk / "further" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _karpathy(disk: Path, _: str) -> list[str]:
    source = ["--json", str(disk / "captions.json"), "--images", str(disk / "data" / "images")]
    return ["-m", "data_prep.from_karpathy", *source, "--out", str(disk / "imported"), "--copy"]


def _karpathy_source(disk: Path) -> None:
    images = [
        {
            "filename": Path(own.file_name).name,
            "split": own.split,
            "sentences": [{"raw": sentence.text} for sentence in own.sentences],
        }
        for own in load_dataset(disk / "data").images
    ]
    (disk / "captions.json").write_text(json.dumps({"dataset": "scenes", "images": images}))


def _folder(disk: Path, _: str) -> list[str]:
    return ["-m", "data_prep.from_imagefolder", "--images", str(disk / "data"), "--out", str(disk / "imported")]


def _folder_source(disk: Path) -> None:
    for own in load_dataset(disk / "data").images:
        text = (disk / "data" / own.file_name).with_suffix(".txt")
        text.write_text("\n".join(sentence.text for sentence in own.sentences))
        os.utime(text, (0, 0))  # the import takes a file of another time for another one


def _csv(disk: Path, _: str) -> list[str]:
    source = ["--csv", str(disk / "captions.csv"), "--images", str(disk / "data" / "images")]
    return ["-m", "data_prep.from_csv", *source, "--out", str(disk / "imported")]


def _csv_source(disk: Path) -> None:
    with (disk / "captions.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["image", "sentence", "split"])
        for own in load_dataset(disk / "data").images:
            table.writerows([Path(own.file_name).name, sentence.text, own.split] for sentence in own.sentences)


def _hub(disk: Path, _: str) -> list[str]:
    return ["-m", "data_prep.from_hub", "--files", str(disk / "shards"), "--out", str(disk / "imported")]


def _hub_source(disk: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    (disk / "shards").mkdir()
    images = load_dataset(disk / "data").images
    for split in COUNTS:
        own = [record for record in images if record.split == split]
        columns = {
            "image": [{"bytes": (disk / "data" / record.file_name).read_bytes(), "path": None} for record in own],
            "sentences": [[sentence.text for sentence in record.sentences] for record in own],
        }
        table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        shard = disk / "shards" / f"{split}-00000.parquet"
        table.to_parquet(shard)
        os.utime(shard, (0, 0))  # as above

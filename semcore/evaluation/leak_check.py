"""Leak check: what of the measured items and queries the models have seen in training.

Three ways in: the clusters of the identifiers (inductive or transductive), pictures and sentences that stand in the
training split too, and the pretrained backbone, which may have seen the benchmark's images before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from semcore.data.dataset import Dataset, ImageRecord
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.packaged_files import asset_folder
from semcore.runtime.repeats import Keys
from semcore.runtime.text import clean_text

SCENES = "scenes"
"""The name of datasets that `data_prep.make_scenes` draws."""


class Backbone(NamedTuple):
    """Whether a pretrained model has seen the benchmark's images: "yes", "no" or "unknown", and why that is said."""

    answer: str
    reason: str


# name of a model, name of a dataset, what is published about it; lower case, parts of the names.
_PUBLISHED = (
    ("internvl", "coco", "InternVL's instruction data has VQAv2, RefCOCO and others on MSCOCO's images"),
    ("llava", "coco", "LLaVA's instruction data is written about MSCOCO's images"),
    ("blip", "coco", "BLIP is pretrained on MSCOCO's images and captions"),
)


def check_leaks(run: RunFolder, dataset: Dataset, split: str, protocol: str) -> dict[str, Any]:
    """Return what the models may have seen of a split.

    Args:
        run: the run folder.
        dataset: its dataset.
        split: the measured one.
        protocol: "inductive" or "transductive", as the identifiers were made.

    Returns:
        "protocol"; "num_images" and "num_sentences" of the split; "num_shared_images", those whose file is a training
        image's to the byte; "num_shared_sentences", those that stand word for word under a training image; "backbones",
        one a pretrained model, with "model", "answer" ("yes", "no", "unknown") and "reason".
    """
    measured, trained = dataset.split(split), dataset.split("train")
    shared = num_shared_sentences = 0
    if split != "train":
        known = Keys()
        for text in _texts(trained):
            known.add(text)
        num_shared_sentences = sum(text in known for text in _texts(measured))
        shared = _num_equal_files(
            (dataset.image_path(record) for record in measured), (dataset.image_path(record) for record in trained)
        )
    return {
        "protocol": protocol,
        "num_images": len(measured),
        "num_sentences": sum(len(record.sentences) for record in measured),
        "num_shared_images": shared,
        "num_shared_sentences": num_shared_sentences,
        "backbones": [
            {"model": _short(model), **backbone_of(model, dataset.name)._asdict()} for model in pretrained_models(run)
        ],
    }


def _texts(records: Sequence[ImageRecord]) -> Iterator[str]:
    return (clean_text(sentence.text) for record in records for sentence in record.sentences)


def pretrained_models(run: RunFolder) -> list[str]:
    """Return the checkpoints that a run started from, by path or hub id, each once."""
    stages = run.manifest().get("stages", {})
    named = [
        stages.get("caption", {}).get("settings", {}).get("model"),
        *(
            stages.get(stage, {}).get("settings", {}).get("model", {}).get("base")
            for stage in ("train_identifier", "train_verifier", "train_verifier_blocks")
        ),
    ]
    return list(dict.fromkeys(str(model) for model in named if model))


def backbone_of(model: str, dataset: str) -> Backbone:
    """Say whether a pretrained model has seen a dataset's images.

    Args:
        model: its folder or hub id.
        dataset: the dataset's name.
    """
    if Path(model).is_dir() and fingerprint(model) == fingerprint(asset_folder("scenes_base")):
        if dataset.startswith(SCENES):
            return Backbone("no", "it was pretrained on drawn scenes of another pool, which no dataset has a scene of")
        return Backbone("no", "it was pretrained on drawn scenes alone")
    name, data = _short(model).lower(), dataset.lower()
    for part, benchmark, reason in _PUBLISHED:
        if part in name and benchmark in data:
            return Backbone("yes", reason)
    return Backbone("unknown", "nothing that is known here says what it was pretrained on")


def _short(model: str) -> str:
    """Return a model's name: of a folder its last part, else the hub id."""
    return Path(model).name if Path(model).is_absolute() or Path(model).is_dir() else model


def _num_equal_files(measured: Iterable[Path], trained: Iterable[Path]) -> int:
    """Count the files that are equal to one of others; only those of equal size are read."""
    by_size: Mapping[int, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for place, paths in enumerate((measured, trained)):
        for path in paths:
            if path.is_file():
                by_size[path.stat().st_size][place].append(path)
    number = 0
    for mine, others in by_size.values():
        if mine and others:
            known = set(filter(None, map(_digest, others)))
            number += sum(_digest(path) in known for path in mine)
    return number


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except UserError:
        return None

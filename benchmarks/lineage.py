"""Cost of the lineage check when a command starts, against hashing everything at every start.

    python -m benchmarks.lineage --json benchmarks/results/lineage-cpu.json
    python -m benchmarks.lineage --run runs/quickstart --json benchmarks/results/lineage-cpu.json

Ours caches the hashes of large files, the peer hashes them anew; both then compare the same. Measured are a weight
file of --gigabytes under an adapter, as a base lies there (it is removed at the end), identifiers and sentences of as
many images as Flickr30K has, and with --run the comparisons of `semcore search` and `semcore evaluate` on that run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.corpora import synthetic_corpus
from benchmarks.report import Row, lower_is_better, publish
from benchmarks.timing import interleaved_medians, timed
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.identifier_files import make_row
from semcore.data.run_folder import RunFolder
from semcore.models.adapters import BaseNote, write_note
from semcore.models.lineage import Surroundings, check_lineage, made_from, write_lineage
from semcore.models.run_checkpoints import generator_of, has_verifier, model_of
from semcore.models.run_lineage import check_run_models, check_search
from semcore.runtime import fingerprints
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json, write_jsonl
from semcore.runtime.fingerprints import fingerprint

SENTENCES_AN_IMAGE = 5


@dataclass
class Settings:
    """What to measure."""

    run: Path | None = None
    """A finished run."""
    json: Path | None = None
    """File to save the rows in."""
    gigabytes: float = 1.0
    """Size of the base under an adapter."""
    num_images: int = 31_014  # Flickr30K
    """Images whose identifiers and sentences are compared."""
    repeats: int = 5
    """Comparisons of each side that count."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "num_images", "repeats")
        if self.gigabytes <= 0:
            raise UserError(f"--gigabytes must be more than 0, found {self.gigabytes}")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # an empty cache
        rows = [*base_rows(folder, settings), *corpus_rows(folder, settings)]
        if settings.run is not None:
            rows += run_rows(RunFolder(settings.run), settings.repeats)
    publish(rows, settings.json)


def base_rows(folder: Path, settings: Settings) -> list[Row]:
    """Time the comparison of an adapter's base: the first one, and those that follow."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir()
    weights = np.random.default_rng(0).standard_normal(int(settings.gigabytes * 1e9 / 4), dtype=np.float32)
    save_file({"weights": weights}, base / "model.safetensors")
    write_json(adapter / "adapter_config.json", {"base_model_name_or_path": str(base)})
    write_note(adapter, BaseNote(fingerprint(base)))
    fingerprints._memory.clear()
    time.sleep(fingerprints.SETTLED_NS / 1e9)  # hashes of files written just now are not cached
    check: Callable[[], object] = lambda: check_lineage(adapter, Surroundings(), must_say=False)  # noqa: E731
    first, note = timed(check), f"a base of {settings.gigabytes} GB under an adapter"
    return [
        lower_is_better("base, first start", first, None, "s", note),
        _row("base, later starts", check, settings.repeats, note),
    ]


def corpus_rows(folder: Path, settings: Settings) -> list[Row]:
    """Time the comparison of identifiers and dataset: unchanged, and with one more item, when rows are compared."""
    run, dataset = draw_run(folder, settings.num_images)
    model, here = run / "identifier_model", Surroundings(run=run, dataset=dataset)
    model.mkdir()
    write_lineage(model, made_from(run, dataset))
    note = f"identifiers and sentences of {settings.num_images:,} images"
    rows = [_row("corpus as it was", lambda: check_lineage(model, here), settings.repeats, note)]
    with (run / "identifiers" / "t2i.jsonl").open("a") as file:
        file.write('{"item_id": "later", "split": "test", "global_id": 0, "lexical_id": [], "identifier": "later"}\n')
    return [*rows, _row("corpus with an item more", lambda: check_lineage(model, here), settings.repeats, note)]


def draw_run(folder: Path, num_images: int) -> tuple[RunFolder, Dataset]:
    """Return a run folder with identifiers, and a dataset whose images are never opened."""
    run, names = RunFolder(folder / "run"), synthetic_corpus(num_images).item_ids
    ids = [f"image-{number}" for number in range(len(names))]
    sentences = [[f"{i}-{n}" for n in range(SENTENCES_AN_IMAGE)] for i in ids]
    text = "two dogs run over the wet sand of a beach while a man in a red jacket looks on"
    records = (
        {"file_name": f"images/{i}.jpg", "image_id": i, "split": "train",
         "sentences": [{"sentence_id": s, "text": f"{text} {s}"} for s in own]}
        for i, own in zip(ids, sentences, strict=True)
    )  # fmt: skip
    write_jsonl(folder / "data" / "metadata.jsonl", records)
    words = ["dogs", "beach", "jacket", "sand"]
    write_jsonl(run / "identifiers" / "t2i.jsonl", (make_row(i, "train", n % 128, words) for n, i in enumerate(ids)))
    every = (s for own in sentences for s in own)
    write_jsonl(run / "identifiers" / "i2t.jsonl", (make_row(s, "train", 0, words) for s in every))
    return run, load_dataset(folder / "data")


def run_rows(run: RunFolder, repeats: int) -> list[Row]:
    """Time the comparisons of `semcore search` and of `semcore evaluate --verifier both` on a finished run."""
    dataset, generator = load_dataset(run.data_folder()), generator_of(run)
    names = ["listwise", "likelihood"] if has_verifier(run) else ["likelihood"]
    models = {"generator": generator, **{name: model_of(run, name) for name in names}}
    searched = {name: models[name] for name in ("generator", names[0])}
    note = f"{run.path.name}, {len(dataset.images):,} images"
    return [
        _row("semcore search", lambda: check_search(run, dataset, searched, (), None, (), fused=True), repeats, note),
        _row("semcore evaluate", lambda: check_run_models(run, dataset, models), repeats, note),
    ]


def _row(name: str, check: Callable[[], object], repeats: int, note: str) -> Row:
    """Return the seconds of a comparison, and of the same with everything hashed anew."""

    def ours() -> None:
        fingerprints._memory.clear()  # a command starts with none
        check()

    def anew() -> None:
        with _nothing_remembered():
            ours()

    seconds = interleaved_medians({"ours": ours, "peer": anew}, repeats)
    return lower_is_better(name, round(seconds["ours"], 4), round(seconds["peer"], 4), "s", note)


@contextmanager
def _nothing_remembered() -> Iterator[None]:
    large, fingerprints.LARGE_BYTES = fingerprints.LARGE_BYTES, 1 << 62
    try:
        yield
    finally:
        fingerprints.LARGE_BYTES = large


if __name__ == "__main__":
    run_command(main, Settings)

"""Mine the candidates that the verifier trains on, with the trained identifier model (paper, A.1).

Run as:

    python -m data_prep.candidates --data DATA --run RUN
    python -m data_prep.candidates --data DATA --run RUN --num-candidates 5 --num-beams 50
    python -m data_prep.candidates --data DATA --run RUN --config recipes/configs/scenes.yaml
    python -m data_prep.candidates --data DATA --run RUN --directions [t2i]

Searches with the sentences and images that the identifier model was not trained on, and searches as many
training images at once as the evaluation does. Needs RUN/identifier_model. Writes into RUN/candidates:

    t2i.jsonl  i2t.jsonl    {"direction", "query_id", "query", "candidates", "right"}, ids in the generator's order
    val/                    the same of the val split, where there is one: what the verifier's training is stopped by
    held_out.json           the queries
    stats.json              how often the relevant item was first, among the candidates, or added

A killed job goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from semcore.commands.arguments import require_minimum, resolved, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction, DirectionName
from semcore.data.items_and_queries import draw_queries, read_items, read_queries
from semcore.data.run_folder import RunFolder
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.lineage import as_record, directions_in_use
from semcore.models.next_steps import after_candidates
from semcore.models.run_checkpoints import generator_of
from semcore.models.run_lineage import check_run_models, prompts_of
from semcore.models.session import load_session
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir, generate_hits
from semcore.retrieval.generator import Engine
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of, sha256_of, write_json, write_jsonl
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.ranks import is_main_process
from semcore.runtime.resumable import remove_work_folder, work_folder
from semcore.runtime.settings import LineageSettings
from semcore.training.held_out import held_out_of_run, write_held_out
from semcore.training.mining import (
    VAL,
    Mined,
    held_out_queries,
    items_of,
    mine,
    mining_stats,
    partition_images,
    queries_of,
)
from semcore.verification import LETTERS


@dataclass
class Settings(LineageSettings):
    """How candidates are mined."""

    help_sections: ClassVar = {"num_candidates": "search", "engine": "run-time"}

    run: Path
    """The run folder; it holds the identifiers and the identifier model."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `candidates` is read before the flags."""
    directions: list[DirectionName] | None = None
    """What candidates are mined for, [t2i] say; by default all that the identifier model was trained for."""
    num_candidates: int = 10  # paper, A.1
    """Candidates per query."""
    num_beams: int = 20  # ours: as in evaluation
    """Width of the beam."""
    num_images: int | None = None
    """Search about so many training images at once; by default as many as the test split has."""
    seed: int = 0
    """Seed of the partition of images into blocks, and of the draw that --limit makes."""
    limit: int | None = None
    """Ask with so many queries a direction only, drawn at random, for a quick trial."""
    val_limit: int = 100  # ours: enough to tell a better model from a worse one
    """Queries of val a direction, drawn at random; 0 for none, and the training then goes to its last step."""
    engine: Engine = "semcore"
    """Beam-search backend: "semcore", or "transformers" for Hugging Face `generate`."""
    keep_features: bool = True
    """Store every image's visual features in RUN/features; false saves disk space and costs time."""
    batch_size: int = 32
    """Queries searched at once."""
    dtype: Dtype = "auto"
    """Precision: "auto" is bfloat16 where the device multiplies it natively, else float32."""
    device: str | None = None
    """Where the model runs ("cpu", "cuda"); by default the fastest device there is."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "num_beams", "num_images", "limit", "batch_size")
        require_minimum(0, self, "seed", "val_limit")
        if not 2 <= self.num_candidates <= len(LETTERS):
            raise UserError(f"--num-candidates must be from 2 to {len(LETTERS)}, found {self.num_candidates}")


def main(settings: Settings) -> None:
    """Mine candidates, or say that it is done."""
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    held_out = held_out_of_run(run, dataset)
    model = generator_of(run)
    directions = directions_in_use(settings.directions, model)
    mismatches = check_run_models(
        run, dataset, {"generator": model}, directions=directions, base=settings.base, allow=settings.allowed
    )
    used = prompts_of(["generator"], directions)
    folder, inputs = run / "candidates", stage_inputs(run, dataset, model, used)
    with run.lock():
        stage = run.open_stage("candidates", resolved(settings), inputs, dataset.folder)
        if stage.finished:
            if is_main_process():
                remove_work_folder(run.path, "candidates")  # a kill may have come before it
            return _say(f"already mined, see {folder}")
        views = views_to_mine(
            run,
            dataset,
            {direction: held_out.query_ids[direction] for direction in directions},
            num_images=settings.num_images or _images_searched(dataset),
            seed=settings.seed,
            limit=settings.limit,
        )
        if settings.val_limit:
            views |= val_views(run, dataset, directions, settings.val_limit, settings.seed)
        run.set_config("candidates", resolved(settings))
        run.set_prompts(used)
        key = hash_of(resolved(settings), inputs)
        work_dir = WorkDir(
            work_folder(run.path, "candidates", key),
            is_main_process(),
            run / "features" if settings.keep_features else None,
        )
        mined = mine_views(settings, dataset, run, views, work_dir)
        if is_main_process():
            stats = write_candidates(folder, settings, directions, views, mined)
            write_held_out(run, held_out, directions)
            stage.finish(num_queries=sum(map(len, mined.values())), **as_record(mismatches))
            remove_work_folder(run.path, "candidates")
            _print_summary(folder, stats)
    return _say(f"next: {after_candidates(run, dataset.folder, settings.config)}")


def stage_inputs(run: RunFolder, dataset: Dataset, model: str, prompts: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of everything the candidates depend on."""
    return {
        "metadata.jsonl": dataset.fingerprint,
        **{f"identifiers/{d}.jsonl": sha256_of(run / "identifiers" / f"{d}.jsonl") for d in Direction},
        "the identifier model": fingerprint(model),
        **prompts,
    }


def views_to_mine(
    run: RunFolder,
    dataset: Dataset,
    held_out: Mapping[Direction, list[str]],
    *,
    num_images: int,
    seed: int,
    limit: int | None,
) -> dict[SplitKey, SplitView]:
    """Return (block, direction) -> the items to search and the queries to search them with.

    Args:
        run: holds the identifiers.
        dataset: its training split is partitioned.
        held_out: direction to mine for -> ids of the queries that the generator has not trained on.
        num_images: about how many images a block has.
        seed: seed of the partition and of the draw of queries.
        limit: queries per direction, at most.

    Raises:
        UserError: nothing was held out.
    """
    images, sentences = (read_items(run, dataset, direction, "train") for direction in Direction)
    known = {item.image_id for item in images}
    records = [record for record in dataset.split("train") if record.image_id in known]
    blocks = partition_images(records, num_images, seed)
    views = {}
    for direction, items in zip(Direction, (images, sentences), strict=True):
        if direction not in held_out:
            continue
        everything = read_queries(records, direction, images, sentences)
        chosen = draw_queries(held_out_queries(everything, held_out[direction]), limit, seed)
        for number, block in enumerate(blocks):
            own, queries = items_of(items, block), queries_of(chosen, direction, block)
            if own and queries.contents:
                views[SplitKey(f"block-{number}", direction)] = SplitView({item.item_id: item for item in own}, queries)
    if not views:
        raise UserError(
            f"nothing was held out from the training of {run / 'identifier_model'}, so there is nothing to mine with; "
            "train it with --held-out.sentences-per-image 1"
        )
    return views


def val_views(
    run: RunFolder, dataset: Dataset, directions: Sequence[Direction], limit: int, seed: int
) -> dict[SplitKey, SplitView]:
    """Return what is searched in the val split and what is asked there; nothing where val has no item or no query.

    Args:
        run: holds the identifiers.
        dataset: whose val split it is.
        directions: to mine for.
        limit: queries a direction, at most.
        seed: of the draw of queries.
    """
    images, sentences = (read_items(run, dataset, direction, VAL) for direction in Direction)
    known = {item.image_id for item in images}
    records = [record for record in dataset.split(VAL) if record.image_id in known]
    views = {}
    for direction, items in zip(Direction, (images, sentences), strict=True):
        queries = read_queries(records, direction, images, sentences)
        answered = queries.only(query for query in queries.relevant if query not in queries.unanswerable)
        if direction in directions and len(items) > 1 and answered.contents:
            own = {item.item_id: item for item in items}
            views[SplitKey(VAL, direction)] = SplitView(own, draw_queries(answered, limit, seed))
    return views


def mine_views(
    settings: Settings, dataset: Dataset, run: RunFolder, views: dict[SplitKey, SplitView], work_dir: WorkDir
) -> dict[SplitKey, list[Mined]]:
    """Load the identifier model and search each block."""
    checkpoint = load_for_inference(generator_of(run), dtype=settings.dtype, device=settings.device, base=settings.base)
    session = load_session(checkpoint, dataset, work_dir.features)
    mined = {}
    for key, view in views.items():
        hits = generate_hits(
            session,
            key,
            view,
            work_dir,
            num_beams=settings.num_beams,
            batch_size=settings.batch_size,
            engine=settings.engine,
        )
        mined[key] = mine(key.direction, view, hits, settings.num_candidates)
    return mined


def write_candidates(
    folder: Path,
    settings: Settings,
    directions: Sequence[Direction],
    views: dict[SplitKey, SplitView],
    mined: dict[SplitKey, list[Mined]],
) -> dict[str, Any]:
    """Write the rows of each direction, those of val apart, and stats.json; return what that holds."""
    stats: dict[str, Any] = {VAL: {}}
    for of_val in (False, True):
        for direction in directions:
            own = {k: rows for k, rows in mined.items() if k.direction == direction and (k.split == VAL) == of_val}
            everything = [each for rows in own.values() for each in rows]
            if of_val and not everything:
                continue
            counts = mining_stats(everything, settings.num_candidates, [len(views[key].items) for key in own])
            (stats[VAL] if of_val else stats)[direction] = counts
            write_jsonl((folder / VAL if of_val else folder) / f"{direction}.jsonl", (e.row for e in everything))
    write_json(folder / "stats.json", stats)
    return stats


def _images_searched(dataset: Dataset) -> int:
    """Return how many images an evaluation searches: those of test, else of val, else all images."""
    return len(dataset.split("test")) or len(dataset.split("val")) or len(dataset.split("train"))


def _print_summary(folder: Path, stats: dict[str, Any]) -> None:
    for direction in Direction:
        if (own := stats.get(direction)) is None:
            continue
        _say(
            f"{own['num_queries']} queries {direction} in {folder / direction}.jsonl; the right item is first in "
            f"{own['percent_right_at_1']} %, among the candidates in {own['percent_right_among_candidates']} %, "
            f"put in its place in {own['percent_replaced']} %"
        )


def _say(sentence: str) -> None:
    if is_main_process():
        print(f"candidates: {sentence}")


if __name__ == "__main__":
    run_command(main, Settings, "candidates")

"""Rounds of the ranking stage: a search with the model so far, then a training on what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.models.adapters import is_adapter, read_note
from semcore.models.inference import load_for_inference
from semcore.models.layer_fusion import LAYER_FUSION
from semcore.models.null_queries import NULL_QUERIES, null_queries_record
from semcore.models.prompts import load_prompts
from semcore.models.run_lineage import prompts_of
from semcore.models.session import load_session
from semcore.retrieval.batch import SplitView, WorkDir
from semcore.runtime.files import write_json, write_jsonl
from semcore.runtime.ranks import is_main_process
from semcore.training.fine_tune import fine_tune, image_start_id, load_start, make_trainable
from semcore.training.images import load_training_images
from semcore.training.objective_settings import RankingSettings
from semcore.training.ranking import FoundRow, find_candidates, found_stats, plan_ranking_rows, ranked_queries
from semcore.training.settings import TrainingSettings

RANKED_MODEL = "ranked_model"


@dataclass(frozen=True)
class Round:
    """One round of a run, counted from 1."""

    run: RunFolder
    number: int
    is_last: bool

    @property
    def folder(self) -> Path:
        """Return RUN/ranking/round-k."""
        return self.run / "ranking" / f"round-{self.number}"

    @property
    def model(self) -> Path:
        """Return where the trained model goes."""
        return self.run / RANKED_MODEL if self.is_last else self.folder / "model"


def is_whole(folder: Path) -> bool:
    """Return whether a model was saved in a folder: it appears whole, or not at all."""
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def search(
    own: Round,
    start: str,
    dataset: Dataset,
    views: Mapping[Direction, SplitView],
    work_dir: WorkDir,
    base: Path | None,
    ranking: RankingSettings,
    batch_size: int,
) -> dict[Direction, list[FoundRow]]:
    """Search with the model so far, write what is found into the round's folder, and return it.

    Args:
        own: the round.
        start: the model so far.
        dataset: whose images are shown.
        views: the training items and the queries.
        work_dir: keeps finished chunks.
        base: the present path of an adapter's base, if it has moved.
        ranking: how wide is searched.
        batch_size: queries searched at once.
    """
    unset_hf_deepspeed_config()  # after a training under ZeRO-3 transformers would share the weights out
    session = load_session(load_for_inference(start, base=base), dataset, work_dir.features)
    places = replace(work_dir, folder=work_dir.folder / f"round-{own.number}")
    found = find_candidates(session, views, places, num_beams=ranking.num_beams, batch_size=batch_size)
    if is_main_process():
        for direction, rows in found.items():
            write_jsonl(own.folder / f"{direction}.jsonl", rows)
        write_json(own.folder / "stats.json", found_stats(found))
    return found


def train(
    own: Round,
    start: str,
    dataset: Dataset,
    found: Mapping[Direction, Sequence[FoundRow]],
    base: Path | None,
    features: Path | None,
    ranking: RankingSettings,
    training: TrainingSettings,
    lineage: Mapping[str, Any],
) -> dict[str, Any]:
    """Train on what was found, save the model, and return the manifest's entries.

    The set head stays as it is; a layer fusion is part of the model, and trains.

    Args:
        own: the round.
        start: the model so far; an adapter is trained on.
        dataset: whose images are shown.
        found: from `search`.
        base: the present path of an adapter's base, if it has moved.
        features: RUN/features, or None.
        ranking: which loss.
        training: how it is trained.
        lineage: inputs of the training, from `semcore.models.lineage.made_from`.
    """
    place = Path(start)
    checkpoint = load_start(
        start, int(is_adapter(place)), read_note(place).quantization, False, **training.loading(), moved=base
    )
    tokenizer, prompts = checkpoint.tokenizer, load_prompts(special_tokens=checkpoint.special_tokens)
    visuals = load_training_images(
        checkpoint, dataset, features, _silent, freeze_vision=True, freeze_projector=True, bf16=training.bf16,
        needed=Direction.I2T in found,
    )  # fmt: skip
    queries = [
        query
        for direction, rows in found.items()
        for query in ranked_queries(tokenizer, prompts, direction, rows, visuals)
    ]
    schedule = {**training.schedule(), "seed": training.seed + own.number - 1}  # another order in every round
    rows = plan_ranking_rows(queries, ranking.loss, image_start_id=image_start_id(checkpoint), **schedule)
    model = make_trainable(
        checkpoint.model, True, True, rank=0, alpha=None, dropout=0.0, target_modules=(), new_token_ids=(),
        extras=[LAYER_FUSION],
    )  # fmt: skip
    measured = fine_tune(
        checkpoint, model, rows, visuals, own.model, prompts=prompts_of(["generator"], tuple(found)),
        description=f"ranking, round {own.number}", lineage=lineage, objective=ranking.objective(training.batch_size),
        records={NULL_QUERIES: null_queries_record(0.0)}, keep_processes=not own.is_last, **training.optimization(),
    )  # fmt: skip
    return {**measured, "num_queries": len(queries), "found": found_stats(found)}


def _silent(_sentence: str) -> None:
    """Say nothing: the identifier model's training has told of unreadable images."""

r"""Train the identifier model to rank the right identifier before those that its own search finds (AVG, section 3.2).

Run as (full fine-tuning, two processes on a CPU):

    accelerate launch --config_file ds_configs/cpu_zero2.yaml recipes/train_ranking.py --data DATA --run RUN

or on GPUs, for a model with or without an adapter:

    accelerate launch --config_file ds_configs/zero2.yaml recipes/train_ranking.py --data DATA --run RUN

Searches the training items with the queries that the model was trained on, then trains: cross-entropy of the right
identifier, and a contrastive loss over it and the found ones. Any identifiers will do, SemCORE's, too. A step takes
`--training.batch-size` queries. Needs RUN/identifier_model, and writes

    RUN/ranking/round-1/t2i.jsonl ...   what was found: {"query_id", "query", "right", "found"}
    RUN/ranked_model                    the checkpoint, or the adapter; later stages take it as the generator

A killed stage goes on where it was. `--check` trains nothing, `--training.max-steps 5` stops early.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from semcore.commands.arguments import announcer, require_minimum, resolved, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction, DirectionName
from semcore.data.run_folder import RunFolder
from semcore.models.adapters import is_adapter, read_note
from semcore.models.lineage import as_record, directions_in_use, made_from
from semcore.models.next_steps import after_identifier_model
from semcore.models.run_checkpoints import generator_of
from semcore.models.run_lineage import check_run_models, prompts_of
from semcore.report import write_model_cards
from semcore.retrieval.batch import SplitView, WorkDir
from semcore.runtime.files import hash_of
from semcore.runtime.ranks import is_main_process
from semcore.runtime.resumable import remove_work_folder, work_folder
from semcore.runtime.settings import LineageSettings
from semcore.training.fine_tune import stage_inputs
from semcore.training.held_out import held_out_of_run
from semcore.training.objective_settings import RankingSettings
from semcore.training.option_checks import check_mode
from semcore.training.ranking import training_views
from semcore.training.ranking_rounds import Round, is_whole, search, train
from semcore.training.settings import TrainingSettings

STAGE = "train_ranking"
say = announcer(STAGE)


@dataclass
class Settings(LineageSettings):
    run: Path
    """The run folder; it holds the identifiers and the identifier model."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `train_ranking` is read before the flags."""
    check: bool = False
    """Read and check everything, train nothing."""
    directions: list[DirectionName] | None = None
    """What is ranked, [t2i] say; by default all that the identifier model was trained for."""
    keep_features: bool = True
    """Keep what the frozen vision tower makes of every image in RUN/features; false spares the disk and costs time."""
    search_batch_size: int = 32  # ours: as in evaluation
    """Queries searched at once."""
    ranking: RankingSettings = field(default_factory=RankingSettings)
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(learning_rate=1e-4))  # AVG's script

    def __post_init__(self) -> None:
        require_minimum(1, self, "search_batch_size")


def main(settings: Settings) -> None:
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    start = generator_of(run, "identifier")
    quantization = read_note(Path(start)).quantization
    check_mode(int(is_adapter(Path(start))), quantization, True, **asdict(settings.training))
    directions = directions_in_use(settings.directions, start)
    mismatches = check_run_models(
        run, dataset, {"generator": start}, directions=directions, base=settings.base, allow=settings.allowed
    )
    used = prompts_of(["generator"], directions)
    with run.lock():
        inputs = stage_inputs(run, dataset, start, [f"identifiers/{own}.jsonl" for own in Direction], used)
        stage = None if settings.check else run.open_stage(STAGE, resolved(settings), inputs, dataset.folder)
        if stage and stage.finished:
            write_model_cards(run, dataset.name, edited=False)  # a kill may have come before it
            return say(f"already trained, see {run / 'ranked_model'}")
        held_out, ranking = held_out_of_run(run, dataset), settings.ranking
        views = training_views(run, dataset, directions, held_out, ranking.limit, settings.training.seed)
        counts = " and ".join(f"{len(view.queries.contents)} queries {own}" for own, view in views.items())
        say(f"{counts}, {ranking.rounds} round(s) of search and training")
        if stage is None:
            return say("everything is in order")

        run.set_config(STAGE, resolved(settings))
        run.set_prompts(used)
        key, lineage = hash_of(resolved(settings), inputs), made_from(run, dataset, mismatches, directions)
        measured = one_after_the_other(settings, run, dataset, start, views, key, lineage)
        if is_main_process():
            remove_work_folder(run.path, STAGE)
        stage.finish(**measured, **as_record(mismatches))
        write_model_cards(run, dataset.name)
    return say(f"next: {after_identifier_model(run, dataset.folder, settings.config)}")


def one_after_the_other(
    settings: Settings,
    run: RunFolder,
    dataset: Dataset,
    start: str,
    views: dict[Direction, SplitView],
    key: str,
    lineage: dict[str, object],
) -> dict[str, object]:
    """Search and train, round by round, each from the model of the one before; return what the last one measured."""
    ranking, features = settings.ranking, run / "features" if settings.keep_features else None
    work_dir = WorkDir(work_folder(run.path, STAGE, key), is_main_process(), features)
    measured: dict[str, object] = {}
    for number in range(1, ranking.rounds + 1):
        own = Round(run, number, is_last=number == ranking.rounds)
        if not own.is_last and is_whole(own.model):
            say(f"round {number} is trained")
        else:
            say(f"round {number}: search with {start}")
            found = search(own, start, dataset, views, work_dir, settings.base, ranking, settings.search_batch_size)
            say(f"round {number}: training")
            measured = train(own, start, dataset, found, settings.base, features, ranking, settings.training, lineage)
        start = str(own.model)
    return measured


if __name__ == "__main__":
    run_command(main, Settings, section=STAGE)

"""Measuring of a run as a stage: checks, resumable work, results and report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from semcore.commands.arguments import announcer
from semcore.data.dataset import Dataset
from semcore.data.run_folder import RunFolder
from semcore.evaluation.dense_baselines import measure_baselines
from semcore.evaluation.inputs import (
    by_content,
    captions_and_encoder,
    ceiling_of,
    find_models,
    protocol_of,
    score_inputs,
    views_to_measure,
)
from semcore.evaluation.leak_check import check_leaks
from semcore.evaluation.pipeline import run_evaluation
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.results import EvaluationResult, write_results
from semcore.models.lineage import as_record
from semcore.models.run_lineage import check_run_models
from semcore.models.verifier_registry import TRAINED
from semcore.report import write_model_cards, write_report
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir
from semcore.runtime.files import hash_of
from semcore.runtime.ranks import is_main_process
from semcore.runtime.resumable import remove_work_folder, work_folder
from semcore.verification import read_attention

say = announcer("evaluate")


def measure_run(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    settings: Mapping[str, Any],
    *,
    allowed: Collection[str] = (),
    check: bool = False,
    keep_features: bool = True,
) -> None:
    """Measure a run, or say that it is done.

    Args:
        plan: what is measured, and how.
        run: the run folder.
        dataset: what is searched.
        settings: as the manifest keeps them.
        allowed: kinds of lineage mismatch to go on with.
        check: only look whether everything is there.
        keep_features: store every image's visual features in the run.

    Raises:
        UserError: something is missing, or does not belong together.
    """
    models = find_models(plan, run)
    mismatches = check_run_models(
        run, dataset, models, directions=plan.directions, named=plan.other_models, base=plan.base, allow=allowed
    )
    views = views_to_measure(plan, run, dataset)
    inputs = score_inputs(plan, run, dataset, models)
    if check:
        counts = [f"{len(view.queries.relevant)} queries {key.direction} {key.split}" for key, view in views.items()]
        return say(f"everything is in order: {', '.join(counts)}")
    for name in (name for name in TRAINED if name in models):
        say(f"the {name} verifier is asked with attention {read_attention(models[name])}, as it was trained")
    with run.lock():
        places = by_content(plan)
        stage = run.open_stage("evaluate", dict(settings), inputs, dataset.folder, places)
        if stage.finished:
            _write_what_a_kill_left_out(run, dataset)
            remove_work_folder(run.path, "evaluate")  # several processes leave it behind
            return say(f"already measured, see {run / 'report.md'}")
        run.set_config("evaluate", dict(settings))
        run.set_prompts({name: digest for name, digest in inputs.items() if name.endswith(".jinja")})
        own = {name: value for name, value in settings.items() if name not in places}
        features = run / "features" if keep_features else None
        key = hash_of(own, inputs, places)
        work_dir = WorkDir(work_folder(run.path, "evaluate", key), is_main_process(), features)
        result = _measure(plan, run, dataset, models, views, work_dir)
        result.mismatches = mismatches
        if is_main_process():
            result.leak_check = check_leaks(run, dataset, plan.split, protocol_of(run))
            write_results(run, result, protocol_of(run), ceiling_of(plan, dataset))
            num_queries = sum(len(view.queries.relevant) for view in result.views.values())
            stage.finish(num_queries=num_queries, **as_record(mismatches))
            remove_work_folder(run.path, "evaluate")
            write_report(run.path, data=dataset.folder)
            write_model_cards(run, dataset.name)
    return say(f"see {run / 'metrics.json'}, {run / 'report.md'} and {run / 'report.html'}")


def _measure(
    plan: EvaluationPlan,
    run: RunFolder,
    dataset: Dataset,
    models: Mapping[str, str],
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
) -> EvaluationResult:
    """Return the result, dense baselines included."""
    result = run_evaluation(plan, run, dataset, models, views, work_dir)
    measured = {key: view for key, view in views.items() if key.split == plan.split}
    captions, encoder = captions_and_encoder(plan, run)
    result.baselines = measure_baselines(plan.baselines, dataset, captions, encoder, measured, work_dir, plan.device)
    return result


def _write_what_a_kill_left_out(run: RunFolder, dataset: Dataset) -> None:
    """Write a report that is missing, and model cards that lack the scores."""
    if is_main_process() and not ((run / "report.md").exists() and (run / "report.html").exists()):
        write_report(run.path, data=dataset.folder)
    write_model_cards(run, dataset.name, edited=False)

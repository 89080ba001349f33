"""Inputs of an evaluation from the run and the dataset: models, split views, and their fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import image_of
from semcore.data.run_folder import RunFolder
from semcore.evaluation.folds import assign_folds
from semcore.evaluation.held_out_items import views_without_answers
from semcore.evaluation.plan import EvaluationPlan
from semcore.evaluation.val_corpus import filled_val_views
from semcore.models.run_checkpoints import generator_of, model_of, untrained_verifier_of
from semcore.models.run_lineage import prompts_of
from semcore.retrieval.batch import SplitKey, SplitView, read_split_views
from semcore.retrieval.dense import SENTENCE_ENCODER, require_captions
from semcore.retrieval.dense import captions_and_encoder as _captions_and_encoder
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of, read_json, sha256_of
from semcore.runtime.fingerprints import fingerprint


def find_models(plan: EvaluationPlan, run: RunFolder) -> dict[str, str]:
    """Return the checkpoints that are needed: "generator", and by their names verifiers and "untrained".

    Raises:
        UserError: one of them does not exist.
    """
    models = {"generator": generator_of(run, plan.generator)}
    for name in plan.verifiers:
        models[name] = plan.other_models.get(name) or model_of(run, name, plan.base)
    if "listwise" in models and plan.order_bias_untrained and plan.num_order_queries:
        untrained = untrained_verifier_of(run, plan.base)
        if untrained is None:
            raise UserError(
                f"{run.path} does not say what its listwise verifier was trained from; "
                "leave out --order-bias-untrained, or train it with recipes/train_verifier.py"
            )
        models["untrained"] = untrained
    return models


def views_to_measure(plan: EvaluationPlan, run: RunFolder, dataset: Dataset) -> dict[SplitKey, SplitView]:
    """Return the views of the measured split and its folds, of val where weights are fitted, and those without answers.

    Raises:
        UserError: the split has no item or no query.
    """
    measured = read_split_views(run, dataset, plan.split, plan.limit, plan.directions)
    if not measured:
        raise UserError(
            f"split {plan.split} of {dataset.folder} has no image with an identifier and a sentence; "
            "choose another --split"
        )
    if plan.folds is not None:
        measured |= fold_split_views(measured, plan.folds)
    if plan.split != "val":
        fits = plan.verifiers or plan.prior_weight == "fit" or plan.candidates.source != "generated"
        if not (fits or (plan.guide.kind != "none" and plan.guide_weight == "fit")):
            return measured
        val = read_split_views(run, dataset, "val", plan.num_val_queries, plan.directions)
        if plan.val_corpus == "filled":
            sizes = {key.direction: len(view.items) for key, view in measured.items() if key.split == plan.split}
            val = filled_val_views(run, dataset, val, sizes)
        measured |= val
    whole = {key: view for key, view in measured.items() if key.split in (plan.split, "val")}
    if not plan.num_no_match_queries or all(key.split != "val" for key in whole):
        return measured
    return measured | views_without_answers(whole, plan.num_no_match_queries)


def fold_split_views(views: Mapping[SplitKey, SplitView], num_folds: int) -> dict[SplitKey, SplitView]:
    """Divide the views of a split into folds of its images, each with its own items and queries.

    Returns:
        (fold name, direction) -> view; a direction without a query in a fold has none.
    """
    images = dict.fromkeys(
        [image_of(key.direction, *query) for key, view in views.items() for query in view.queries.relevant.items()]
        + [item.image_id for view in views.values() for item in view.items.values()]
    )
    folds = {}
    for number, chosen in enumerate(assign_folds(list(images), num_folds), start=1):
        members = set(chosen)
        for key, view in views.items():
            items = {item_id: item for item_id, item in view.items.items() if item.image_id in members}
            own = [query for query in view.queries.relevant.items() if image_of(key.direction, *query) in members]
            queries = view.queries.only(query for query, _ in own)
            if items and queries.contents:
                folds[SplitKey(f"{key.split} fold {number}", key.direction)] = SplitView(items, queries)
    return folds


def score_inputs(plan: EvaluationPlan, run: RunFolder, dataset: Dataset, models: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of everything the scores depend on."""
    files = [f"identifiers/{direction}.jsonl" for direction in plan.directions]
    if SENTENCE_ENCODER in (*plan.baselines, *dense_models(plan)):
        files.append(require_captions(run).name)
    elif plan.guide.kind == "words" and Direction.I2T in plan.directions:
        files.append(require_captions(run, "the guide words, image to text,").name)
    return {
        "metadata.jsonl": dataset.fingerprint,
        **{name: sha256_of(run / name) for name in files},
        **{f"the {name} model": fingerprint(path) for name, path in models.items()},
        **prompts_of(["generator", *plan.verifiers], plan.directions),
    }


def by_content(plan: EvaluationPlan) -> dict[str, str]:
    """Return the settings that are paths of checkpoints -> fingerprints of their content."""
    named = {f"{name}_model": fingerprint(path) for name, path in plan.other_models.items()}
    baselines = [_content(name) for name in plan.baselines]
    used = dense_models(plan)
    places = {"guide.model": plan.guide.model, "candidates.model": plan.candidates.model}
    dense = {setting: _content(name) if name in used else "" for setting, name in places.items()}
    return {**named, "baselines": hash_of(baselines), **dense}


def dense_models(plan: EvaluationPlan) -> list[str]:
    """Return the dense encoders that guide the search or find candidates, by their names."""
    guides = [plan.guide.model] if plan.guide.kind == "dense" else []
    return guides + ([plan.candidates.model] if plan.candidates.source != "generated" else [])


def _content(name: str) -> str:
    return name if name == SENTENCE_ENCODER else fingerprint(name)


def captions_and_encoder(plan: EvaluationPlan, run: RunFolder) -> tuple[dict[str, str], str]:
    """Return the inputs of the sentence encoder's baseline: captions by image id, and the identifiers' encoder."""
    if SENTENCE_ENCODER not in plan.baselines:
        return {}, ""
    return _captions_and_encoder(run)


def protocol_of(run: RunFolder) -> str:
    """Return "transductive" where the identifiers were fitted on, or the generator trained on, other splits too."""
    parts = protocol_parts(run)
    everything = "transductive" in parts.values() or "all" in parts.values()
    return "transductive" if everything else parts["identifiers"]


def protocol_parts(run: RunFolder) -> dict[str, str]:
    """Return how the identifiers were fitted, and whose captions and images the generator was trained on."""
    identifiers = str(read_json(run / "identifiers" / "report.json")["protocol"])
    training = run.manifest().get("stages", {}).get("train_identifier", {}).get("settings", {})
    queries = training.get("queries", {})
    return {"identifiers": identifiers, **{name: queries.get(name, "none") for name in ("captions", "images")}}


def ceiling_of(plan: EvaluationPlan, dataset: Dataset) -> dict[str, Any]:
    """Return direction -> best possible scores of the split, where the dataset knows them and all of it is asked."""
    path = dataset.folder / "ceiling.json"
    if plan.limit is not None or not path.exists():
        return {}
    known = read_json(path).get(plan.split, {})
    return {direction: known[direction] for direction in plan.directions if direction in known}

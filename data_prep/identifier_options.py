"""Checks of the options of identifiers, and which of them a scheme reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from semcore.commands.arguments import require_minimum, resolved
from semcore.data.caption_files import TextItem
from semcore.identifiers.code_settings import CodeSettings
from semcore.identifiers.mention_rates import Criterion, has_train_sentences
from semcore.identifiers.words import load_segmenter
from semcore.runtime.errors import UserError

KEYWORD_SCHEMES = ("structured", "numeric")
OF_CODES = (
    "vectors", "vectors_pool", "coarse", "branch", "leaf", "collisions", "modality_token", "per_item", "token_init",
    "quantizer",
)  # fmt: skip


def check_options(settings: Any) -> None:
    """Refuse options out of range, and those that do not go together.

    Raises:
        UserError: names the option and what was found.
    """
    _check_keyword_method(settings)
    require_minimum(1, settings, "num_clusters", "num_keywords", "num_cluster_words", "num_inits", "max_iterations")
    require_minimum(1, settings, "tokens_per_batch", "limit", "coarse", "leaf", "per_item")
    require_minimum(2, settings, "branch")
    if settings.max_fit_items < settings.num_clusters:
        raise UserError(f"--max-fit-items must be --num-clusters or more, found {settings.max_fit_items}")
    if not 0 <= settings.seed < 2**32:
        raise UserError(f"--seed must be from 0 to {2**32 - 1}, found {settings.seed}")
    if settings.segmenter is not None:
        load_segmenter(settings.segmenter)
    if not 0 <= settings.min_with_keyword <= 1:
        raise UserError(f"--min-with-keyword must be from 0 to 1, found {settings.min_with_keyword}")
    fewest, most = settings.ngram_range
    if not 1 <= fewest <= most:
        raise UserError(f"--ngram-range needs two numbers such as [1,2], the smaller first, found {[fewest, most]}")
    _check_scheme(settings)


def _check_scheme(settings: Any) -> None:
    scheme = settings.scheme
    if not settings.global_id and scheme not in KEYWORD_SCHEMES:
        raise UserError(
            f"--global-id false leaves the cluster out of structured and numeric identifiers, and --scheme {scheme} "
            "has its own form: leave it out; vokens are coarse-fine without a cluster"
        )
    if scheme == "structured" and settings.per_item > settings.num_clusters:
        raise UserError(
            f"--per-item {settings.per_item} is more than --num-clusters {settings.num_clusters}: choose it smaller"
        )
    if settings.per_item > 1 and not settings.global_id:
        raise UserError(
            f"--per-item {settings.per_item} gives an identifier for each of an item's nearest clusters, which "
            "--global-id false leaves out: leave one of them out"
        )
    if settings.per_item > 1 and scheme in ("numeric", "string", "caption", "atomic"):
        raise UserError(
            f"--per-item {settings.per_item} is for the schemes structured, vokens and coarse-fine, and --scheme "
            f"{scheme} has one identifier an item: leave it out"
        )


def _check_keyword_method(settings: Any) -> None:
    given = {"--diversity": settings.diversity, "--nr-candidates": settings.nr_candidates}
    own = [f"{flag} {value}" for flag, value in given.items() if value is not None]
    if own and settings.keyword_choice == "mention_rate":
        raise UserError(
            f"{own[0]} and --keyword-choice mention_rate are two ways to choose keywords: leave one of them out"
        )
    if own and settings.keyword_method != "keybert":
        raise UserError(
            f"{own[0]} is KeyBERT's own, which --keyword-method {settings.keyword_method} does not know: "
            "add --keyword-method keybert, or leave it out"
        )
    if len(own) > 1:
        raise UserError(f"{' and '.join(own)} are two ways to choose keywords: leave one of them out")
    if settings.diversity is not None and not 0 <= settings.diversity <= 1:
        raise UserError(f"--diversity must be from 0 to 1, found {settings.diversity}")
    if settings.nr_candidates is not None and settings.nr_candidates < settings.num_keywords:
        raise UserError(
            f"--nr-candidates must be --num-keywords ({settings.num_keywords}) or more, found {settings.nr_candidates}"
        )


def with_keyword_order(settings: Any, captions: Sequence[TextItem], image_of_sentence: Sequence[int]) -> Any:
    """Return the settings with an order of keywords: as given, else that of mention, where anything tells it.

    Args:
        settings: of the command.
        captions: of all splits.
        image_of_sentence: see `semcore.identifiers.mention_rates.count_mentions`.
    """
    if settings.keyword_order is not None:
        return settings
    told = has_train_sentences(captions, image_of_sentence)
    return replace(settings, keyword_order="mention_rate" if told else "similarity")


def recorded(settings: Any) -> dict[str, Any]:
    """Return the settings for config.yaml and the manifest: schemes of keywords do not read those of codes."""
    whole = resolved(settings)
    if settings.scheme not in KEYWORD_SCHEMES:
        return whole
    return {name: value for name, value in whole.items() if name not in OF_CODES or (name == "per_item" and value > 1)}


def about(settings: Any) -> dict[str, Any]:
    """Return what the report says about how the identifiers were made."""
    names = ["protocol", "encoder", "seed", "scheme", "global_id"]
    if settings.scheme in KEYWORD_SCHEMES:
        names += ["num_keywords", "deduplicate", "keyword_method", "diversity", "nr_candidates", "ngram_range"]
        names += ["per_item"] if settings.per_item > 1 else []
        return {name: getattr(settings, name) for name in names} | criteria(settings)
    return {name: getattr(settings, name) for name in (*names, "vectors", "per_item", "token_init")}


def criteria(settings: Any) -> dict[str, Criterion]:
    """Return how keywords are chosen and ordered; numbers in their place leave nothing to choose or order."""
    if settings.scheme == "numeric":
        return {"keyword_choice": "similarity", "keyword_order": "similarity"}
    return {"keyword_choice": settings.keyword_choice, "keyword_order": settings.keyword_order}


def code_settings(settings: Any) -> CodeSettings:
    """Return the settings of the schemes that write codes."""
    return CodeSettings(
        coarse=settings.coarse, branch=settings.branch, leaf=settings.leaf, collisions=settings.collisions,
        modality_token=settings.modality_token, per_item=settings.per_item, token_init=settings.token_init,
        num_token_words=settings.num_cluster_words, num_inits=settings.num_inits,
        max_iterations=settings.max_iterations, max_fit_items=settings.max_fit_items, quantizer=settings.quantizer,
    )  # fmt: skip

"""Making of a run's identifiers with the options of `data_prep.identifiers`, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_prep.identifier_options import KEYWORD_SCHEMES, code_settings, criteria
from semcore.data.caption_files import Captions, TextItem
from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.identifiers.ablation_schemes import without_global_ids
from semcore.identifiers.mention_rates import require_train_sentences
from semcore.identifiers.oracle import sentence_of
from semcore.identifiers.quality import items_without_keyword
from semcore.identifiers.scheme import Identifiers, SchemeInputs, Vectors
from semcore.identifiers.schemes import SCHEMES
from semcore.identifiers.sentence_encoder import Encode, embed
from semcore.identifiers.structured import StructuredIdentifiers, build_structured_identifiers, fitted_on
from semcore.identifiers.words import load_segmenter
from semcore.models.run_checkpoints import generator_start_of
from semcore.runtime.errors import UserError
from semcore.runtime.ranks import is_main_process


def check_texts(settings: Any, captions: Captions, image_of_sentence: Sequence[int]) -> None:
    """Refuse captions and sentences that the scheme cannot be fitted on; errors as `fitted_on`."""
    by_keyword = settings.scheme in KEYWORD_SCHEMES
    fitted_on(captions.items, settings.protocol, settings.num_clusters if by_keyword else 1)
    if by_keyword and "mention_rate" in criteria(settings).values():
        require_train_sentences(captions.items, image_of_sentence)


def make_identifiers(
    settings: Any,
    run: RunFolder,
    dataset: Dataset,
    captions: Captions,
    sentences: Sequence[TextItem],
    image_of_sentence: Sequence[int],
    encoder: Callable[[], Encode],
) -> Identifiers:
    """Give every captioned image and every sentence an identifier of the scheme asked for.

    Args:
        settings: those of `data_prep.identifiers`.
        run: the run folder.
        dataset: the images and sentences.
        captions: of the images.
        sentences: all of them.
        image_of_sentence: the place of each sentence's image among the captions, or `NO_IMAGE`.
        encoder: loads the sentence encoder.
    """
    fitted = fitted_on(captions.items, settings.protocol, 1)

    def structured() -> StructuredIdentifiers:
        made = make_structured_identifiers(settings, captions, sentences, image_of_sentence, encoder())
        refuse_few_keywords(made, settings.min_with_keyword)
        return made

    def embed_texts(texts: Sequence[str]) -> np.ndarray:
        return embed(texts, encoder(), tokens_per_batch=settings.tokens_per_batch, progress=is_main_process())

    arrays: dict[str, dict[str, np.ndarray]] = {}

    def vectors() -> Vectors:
        from semcore.retrieval.identifier_vectors import PROJECTION, VectorSource

        source = VectorSource(
            settings.vectors, settings.vectors_pool, embed_texts, lambda: generator_start_of(run), run / "features",
            settings.device,
        )  # fmt: skip
        made = source.of(captions.items, sentences, dataset.image_paths, fitted)
        if source.projection is not None:
            arrays[PROJECTION] = dict(source.projection)
        return made

    inputs = SchemeInputs(
        captions.items,
        sentences,
        image_of_sentence,
        fitted,
        structured,
        vectors,
        code_settings(settings),
        settings.seed,
        settings.device,
        is_main_process(),
    )
    made = SCHEMES[settings.scheme].make(inputs)
    made = replace(made, arrays={**made.arrays, **arrays})
    return made if settings.global_id else without_global_ids(made)


def make_structured_identifiers(
    settings: Any,
    captions: Captions,
    sentences: Sequence[TextItem],
    image_of_sentence: Sequence[int],
    encode: Encode,
) -> StructuredIdentifiers:
    """Give every captioned image and every sentence a cluster and keywords."""
    return build_structured_identifiers(
        captions.items,
        sentences,
        encode,
        num_clusters=settings.num_clusters,
        num_keywords=settings.num_keywords,
        num_cluster_words=settings.num_cluster_words,
        deduplicate=settings.deduplicate,
        ngram_range=settings.ngram_range,
        stop_words=None if settings.stop_words == "none" else settings.stop_words,
        segmenter=load_segmenter(settings.segmenter) if settings.segmenter else None,
        protocol=settings.protocol,
        seed=settings.seed,
        num_inits=settings.num_inits,
        max_iterations=settings.max_iterations,
        max_fit_items=settings.max_fit_items,
        tokens_per_batch=settings.tokens_per_batch,
        keyword_method=settings.keyword_method,
        diversity=settings.diversity,
        nr_candidates=settings.nr_candidates,
        image_of_sentence=image_of_sentence,
        per_item=settings.per_item,
        **criteria(settings),
        progress=is_main_process(),
    )


def refuse_few_keywords(identifiers: StructuredIdentifiers, least: float) -> None:
    """Check that enough images, and enough sentences, have a keyword.

    Raises:
        UserError: words were found in a smaller fraction than `least`, or fewer than half of that fraction keep a
            word that is not their cluster's.
    """
    num_images, num_sentences = identifiers.num_with_word
    for rows, found, items in (
        (identifiers.t2i, num_images, "images"),
        (identifiers.i2t, num_sentences, "sentences"),
    ):
        without = items_without_keyword(rows)
        kept = len(rows) - len(without)
        if found < least * len(rows) or kept < least / 2 * len(rows):
            raise UserError(
                f"only {kept} of {len(rows)} {items} get a keyword (words were found in {found}; {without[0]!r} "
                "is one without): look at captions.jsonl, choose --num-cluster-words, --stop-words or --segmenter, "
                "or take them as they are with --min-with-keyword 0"
            )


def print_summary(report: dict[str, Any]) -> None:
    """Print one line per direction, and what was left out."""
    captions = report["captions"]
    if captions["missing"]:
        print(f"identifiers: {len(captions['missing'])} of {captions['num_images']} images have no caption and so none")
    if captions["num_unknown"]:
        print(f"identifiers: {captions['num_unknown']} captions belong to no image of the dataset")
    for direction in Direction:
        if figures := report[direction].get("all"):
            items = direction.item_kind
            print(
                f"identifiers: {figures['num_items']} {items}, {figures['num_identifiers']} identifiers, "
                f"{figures['num_shared_items']} {items} share theirs with another, "
                f"{figures['num_without_keyword']} have no {'code' if report.get('codes') else 'keyword'}"
            )
    if warning := sentence_of(report["oracle"]):
        print(f"identifiers: {warning}")

"""Generation of identifiers for queries by constrained beam search (paper, section 3.4), and the items they lead to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from transformers import GenerationConfig

from semcore.data.directions import Direction
from semcore.decoding import SearchResult, constrained_beam_search, generate_with_transformers
from semcore.decoding.bonus import Bonus, BonusOf, added
from semcore.decoding.potentials import queries_at_a_time
from semcore.decoding.prior_correction import Correction
from semcore.models.batching import model_inputs
from semcore.models.prompts import IMAGE
from semcore.models.session import ModelSession
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.hits import GeneratedHit, merged

Engine = Literal["semcore", "transformers"]
GuideOf = Callable[[Sequence[str]], Bonus | BonusOf]
"""Makes the bonus of a batch of queries (`semcore.retrieval.guides`)."""


def query_inputs(session: ModelSession, direction: Direction, queries: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the model's arguments for a batch of queries, `attention_mask` (B, L) and token ids or embeddings.

    Args:
        session: the identifier model; its prompts hold "identify_t2i" and "identify_i2t".
        direction: tells whether queries are sentences or image ids.
        queries: one batch.
    """
    turns = [session.prompts.render(direction.identify_prompt, query=query, image=IMAGE) for query in queries]
    images = [direction.images_shown(query, ()) for query in queries]
    return model_inputs(session.checkpoint, session.make_prompts(turns, images))


def null_query_inputs(session: ModelSession, direction: Direction) -> dict[str, torch.Tensor]:
    """Return the model's arguments for the null query: the prompt without a sentence or an image (1, L)."""
    turn = session.prompts.render(direction.identify_prompt, query="", image="")
    return model_inputs(session.checkpoint, session.make_prompts([turn], [[]]))


def generate(
    session: ModelSession,
    direction: Direction,
    queries: Sequence[str],
    corpus: Corpus,
    *,
    num_beams: int = 20,
    batch_size: int = 32,
    engine: Engine = "semcore",
    correction: Correction | None = None,
    guide: GuideOf | None = None,
    whole_beam: bool = False,
) -> list[list[GeneratedHit]]:
    """Return each query's items, best first, at most as many as beams.

    Args:
        session: the identifier model; its prompts hold "identify_t2i" and "identify_i2t".
        direction: tells whether queries are sentences or image ids.
        queries: in any order; those of similar length should be adjacent.
        corpus: the items to search.
        num_beams: width of the beam (the paper's tables use 50).
        batch_size: queries searched at once.
        engine: "semcore", or "transformers" for Hugging Face `generate`.
        correction: takes a share of the identifiers' prior off in the search; only "semcore" can.
        guide: returns what is known of some queries before the search; only "semcore" can use it.
        whole_beam: return the items of all identifiers found, as many as beams of each, to be ordered anew and cut.
    """
    search = constrained_beam_search if engine == "semcore" else generate_with_transformers
    batch_size = batch_size if guide is None else queries_at_a_time(corpus.index, batch_size)
    hits: list[list[GeneratedHit]] = []
    for start in range(0, len(queries), batch_size):
        batch = queries[start : start + batch_size]
        inputs = query_inputs(session, direction, batch)
        bonus = correction if guide is None else added(correction, guide(batch))
        further = {} if bonus is None else {"bonus": bonus}
        result = search(session.checkpoint.model, inputs, corpus.index, num_beams=num_beams, **further)
        parts = None if guide is None else _guide_parts(result, correction)
        hits += _hits(result, corpus, num_beams, whole_beam, parts)
    return hits


def _guide_parts(result: SearchResult, correction: Correction | None) -> list[list[float]]:
    """Return what a guide has added to each score: the bonus without what a correction took off."""
    bonuses = result.bonuses or []
    if correction is None:
        return bonuses
    off = correction.node_total.cpu()
    return [
        [whole - float(off[leaf]) for whole, leaf in zip(own, leaves, strict=True)]
        for own, leaves in zip(bonuses, result.leaves, strict=True)
    ]


def _hits(
    result: SearchResult, corpus: Corpus, most: int, whole_beam: bool, guides: list[list[float]] | None
) -> list[list[GeneratedHit]]:
    """Replace each sequence by its items; items of one identifier are in the index's order.

    A whole beam has an item once for each of its identifiers that was found, to be merged after it is ordered anew.
    """
    queries = []
    for query, (leaves, scores) in enumerate(zip(result.leaves, result.scores.tolist(), strict=True)):
        added_by_guide: Sequence[float | None] = [None] * len(leaves) if guides is None else guides[query]
        hits = [
            GeneratedHit(item_id, corpus.text_of(sequence, item_id), score, part)
            for leaf, sequence, score, part in zip(
                leaves, result.sequences[query], scores, added_by_guide, strict=False
            )
            for item_id in corpus.index.items_of_leaf(leaf)[:most]
        ]
        queries.append(hits if whole_beam else merged(hits)[:most])
    return queries


@torch.inference_mode()
def generate_without_trie(
    session: ModelSession, direction: Direction, queries: Sequence[str], corpus: Corpus, *, num_beams: int
) -> list[list[GeneratedHit]]:
    """Search over the whole vocabulary; an output counts only if its tokens are those of an identifier.

    An item is there once for each of its identifiers that was written, as in a whole beam of `generate`.

    So only the constraint differs from `generate`: other tokenizations of an identifier's text do not count.

    Args:
        session: the identifier model.
        direction: tells whether queries are sentences or image ids.
        queries: one batch.
        corpus: the items; outputs are at most as long as the longest identifier.
        num_beams: width of the beam.
    """
    checkpoint, inputs = session.checkpoint, query_inputs(session, direction, queries)
    settings = GenerationConfig(
        max_new_tokens=corpus.index.max_length,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        length_penalty=0.0,  # scores are sums of log-probabilities, as with the trie
        early_stopping="never",
        eos_token_id=checkpoint.end_token_id,
        pad_token_id=checkpoint.filler_token_id,
        return_dict_in_generate=True,
        output_scores=True,
    )
    output = checkpoint.model.generate(**inputs, generation_config=settings)
    length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    answers = output.sequences[:, length:].view(len(queries), num_beams, -1).tolist()
    scores = output.sequences_scores.view(len(queries), num_beams).tolist()
    return [_hits_of_texts(checkpoint.end_token_id, *query, corpus) for query in zip(answers, scores, strict=True)]


def _hits_of_texts(
    end_token_id: int, answers: Sequence[Sequence[int]], scores: Sequence[float], corpus: Corpus
) -> list[GeneratedHit]:
    hits: dict[tuple[str, str], GeneratedHit] = {}
    for tokens, score in zip(answers, scores, strict=True):
        if end_token_id in tokens:
            written = tokens[: tokens.index(end_token_id) + 1]
            for item_id in corpus.index.items(written):
                text = corpus.text_of(written, item_id)
                hits.setdefault((item_id, text), GeneratedHit(item_id, text, score))
    return list(hits.values())

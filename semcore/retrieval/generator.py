"""Queries -> identifiers -> items: constrained beam search with a trained identifier model (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from transformers import GenerationConfig

from semcore.data.directions import Direction
from semcore.decoding import SearchResult, constrained_beam_search, generate_with_transformers
from semcore.decoding.prior_correction import Correction
from semcore.models.batching import make_prompts, model_inputs
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, Prompts
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.hits import GeneratedHit

Engine = Literal["semcore", "transformers"]


def query_inputs(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    queries: Sequence[str],
    features: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return what the model takes for a batch of queries.

    Args:
        checkpoint: the identifier model.
        prompts: hold "identify_t2i" and "identify_i2t".
        direction: tells whether queries are sentences or image ids.
        queries: one batch.
        features: the visual features of the query images, by id; sentences need none.
    """
    turns = [prompts.render(direction.identify_prompt, query=query, image=IMAGE) for query in queries]
    images = [[features[image_id] for image_id in direction.images_shown(query, ())] for query in queries]
    return model_inputs(checkpoint, make_prompts(checkpoint, turns, images))


def null_query_inputs(checkpoint: Checkpoint, prompts: Prompts, direction: Direction) -> dict[str, torch.Tensor]:
    """Return what the model takes for the null query: the prompt without a sentence or an image."""
    turn = prompts.render(direction.identify_prompt, query="", image="")
    return model_inputs(checkpoint, make_prompts(checkpoint, [turn], [[]]))


def generate(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    queries: Sequence[str],
    features: Mapping[str, torch.Tensor],
    corpus: Corpus,
    *,
    num_beams: int = 20,
    batch_size: int = 32,
    engine: Engine = "semcore",
    correction: Correction | None = None,
    whole_beam: bool = False,
) -> list[list[GeneratedHit]]:
    """Return each query's items, best first: at most as many as beams.

    Args:
        checkpoint: the identifier model.
        prompts: hold "identify_t2i" and "identify_i2t".
        direction: tells whether queries are sentences or image ids.
        queries: in any order; those of about equal length should stand together.
        features: the visual features of the query images, by id; sentences need none.
        corpus: what is searched.
        num_beams: width of the beam (the paper's tables use 50).
        batch_size: queries searched at once.
        engine: "semcore", or "transformers" for Hugging Face `generate`.
        correction: takes a share of the identifiers' prior off in the search; only "semcore" can.
        whole_beam: return the items of all identifiers found, as many as beams of each, to be ordered anew and cut.
    """
    search = constrained_beam_search if engine == "semcore" else generate_with_transformers
    further = {} if correction is None else {"correction": correction}
    hits: list[list[GeneratedHit]] = []
    for start in range(0, len(queries), batch_size):
        inputs = query_inputs(checkpoint, prompts, direction, queries[start : start + batch_size], features)
        result = search(checkpoint.model, inputs, corpus.index, num_beams=num_beams, **further)
        hits += _hits(result, corpus, num_beams, whole_beam)
    return hits


def _hits(result: SearchResult, corpus: Corpus, most: int, whole_beam: bool) -> list[list[GeneratedHit]]:
    """Put the items of each sequence in its place; items of one identifier stand in the index's order."""
    queries = []
    for sequences, scores in zip(result.sequences, result.scores.tolist(), strict=True):
        hits = [
            GeneratedHit(item_id, corpus.items[item_id].identifier, score)
            for sequence, score in zip(sequences, scores, strict=False)
            for item_id in corpus.index.items(sequence)[:most]
        ]
        queries.append(hits if whole_beam else hits[:most])
    return queries


@torch.inference_mode()
def generate_without_trie(
    checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor], corpus: Corpus, *, num_beams: int
) -> list[list[GeneratedHit]]:
    """Search over the whole vocabulary; what is written counts only where it is an identifier, token by token.

    So the tree is all that differs: it leads to the same sequences of tokens, not to others that read alike.

    Args:
        checkpoint: the identifier model.
        inputs: one batch of queries.
        corpus: what can be found; no more tokens are written than its longest identifier has.
        num_beams: width of the beam.
    """
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
    num_queries = len(inputs["attention_mask"])
    length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    answers = output.sequences[:, length:].view(num_queries, num_beams, -1).tolist()
    scores = output.sequences_scores.view(num_queries, num_beams).tolist()
    return [_hits_of_texts(checkpoint.end_token_id, *query, corpus) for query in zip(answers, scores, strict=True)]


def _hits_of_texts(
    end_token_id: int, answers: Sequence[Sequence[int]], scores: Sequence[float], corpus: Corpus
) -> list[GeneratedHit]:
    hits: dict[str, GeneratedHit] = {}
    for tokens, score in zip(answers, scores, strict=True):
        if end_token_id in tokens:
            written = tokens[: tokens.index(end_token_id) + 1]
            for item_id in corpus.index.items(written):
                hits.setdefault(item_id, GeneratedHit(item_id, corpus.items[item_id].identifier, score))
    return list(hits.values())

"""Generation of identifiers for queries by constrained beam search (paper, section 3.4), and the items they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from transformers import GenerationConfig

from semcore.data.directions import Direction
from semcore.decoding import SearchResult, constrained_beam_search, generate_with_transformers
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
    """Return the model's arguments for a batch of queries, `attention_mask` (B, L) and token ids or embeddings.

    Args:
        checkpoint: the identifier model.
        prompts: hold "identify_t2i" and "identify_i2t".
        direction: "t2i" (queries are sentences) or "i2t" (queries are image ids).
        queries: one batch.
        features: id -> visual features (visual tokens, hidden) of query images; {} for sentences.
    """
    turns = [prompts.render(direction.identify_prompt, query=query, image=IMAGE) for query in queries]
    images = [[features[image_id] for image_id in direction.images_shown(query, ())] for query in queries]
    return model_inputs(checkpoint, make_prompts(checkpoint, turns, images))


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
) -> list[list[GeneratedHit]]:
    """Return each query's items, best first, at most as many as beams.

    Args:
        checkpoint: the identifier model.
        prompts: hold "identify_t2i" and "identify_i2t".
        direction: "t2i" (queries are sentences) or "i2t" (queries are image ids).
        queries: in any order; those of similar length should be adjacent.
        features: id -> visual features (visual tokens, hidden) of query images; {} for sentences.
        corpus: the items to search.
        num_beams: width of the beam (the paper's tables use 50).
        batch_size: queries searched at once.
        engine: "semcore", or "transformers" for Hugging Face `generate`.
    """
    search = constrained_beam_search if engine == "semcore" else generate_with_transformers
    hits: list[list[GeneratedHit]] = []
    for start in range(0, len(queries), batch_size):
        inputs = query_inputs(checkpoint, prompts, direction, queries[start : start + batch_size], features)
        hits += _hits(search(checkpoint.model, inputs, corpus.index, num_beams=num_beams), corpus, num_beams)
    return hits


def _hits(result: SearchResult, corpus: Corpus, most: int) -> list[list[GeneratedHit]]:
    """Replace each sequence by its items; items of one identifier are in the index's order."""
    queries = []
    for sequences, scores in zip(result.sequences, result.scores.tolist(), strict=True):
        hits = [
            GeneratedHit(item_id, corpus.items[item_id].identifier, score)
            for sequence, score in zip(sequences, scores, strict=False)
            for item_id in corpus.index.items(sequence)
        ]
        queries.append(hits[:most])
    return queries


@torch.inference_mode()
def generate_without_trie(
    checkpoint: Checkpoint, inputs: Mapping[str, torch.Tensor], corpus: Corpus, *, num_beams: int
) -> list[list[GeneratedHit]]:
    """Search over the whole vocabulary; an output counts only if its tokens are those of an identifier.

    So only the constraint differs from `generate`: other tokenizations of an identifier's text do not count.

    Args:
        checkpoint: the identifier model.
        inputs: one batch of queries, from `query_inputs` (B, L).
        corpus: the items; outputs are at most as long as the longest identifier.
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

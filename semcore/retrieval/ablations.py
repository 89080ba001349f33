"""What the parts of the system are worth, without training anything (paper, section 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from transformers import GenerationConfig

from semcore.evaluation.per_query import GeneratedHit
from semcore.models.checkpoint import Checkpoint
from semcore.retrieval.generator import Corpus


def without_verification(hits: Sequence[GeneratedHit]) -> list[GeneratedHit]:
    """Let an arbitrary unique suffix decide between items of one identifier, as an identifier table does.

    The suffix comes from a hash of the item's id: it knows nothing of queries, contents or files.
    """
    shuffled: list[GeneratedHit] = []
    for _, equals in groupby(hits, key=lambda hit: hit.identifier):
        shuffled += sorted(equals, key=lambda hit: hashlib.sha256(hit.item_id.encode()).hexdigest())
    return shuffled


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
    return [_found(checkpoint.end_token_id, *query, corpus) for query in zip(answers, scores, strict=True)]


def _found(
    end_token_id: int, answers: Sequence[Sequence[int]], scores: Sequence[float], corpus: Corpus
) -> list[GeneratedHit]:
    hits: dict[str, GeneratedHit] = {}
    for tokens, score in zip(answers, scores, strict=True):
        if end_token_id in tokens:
            written = tokens[: tokens.index(end_token_id) + 1]
            for item_id in corpus.index.items(written):
                hits.setdefault(item_id, GeneratedHit(item_id, corpus.items[item_id].identifier, score))
    return list(hits.values())

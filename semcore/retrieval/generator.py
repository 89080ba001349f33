"""Queries -> identifiers -> items: constrained beam search with a trained identifier model (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from semcore.data.items_and_queries import Item
from semcore.decoding import IdentifierIndex, SearchResult, constrained_beam_search, generate_with_transformers
from semcore.evaluation.per_query import GeneratedHit
from semcore.models.batching import make_prompts, model_inputs
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.tokenization import answer_tokens, chat_prompt, expand_images
from semcore.runtime.errors import UserError

Engine = Literal["semcore", "transformers"]


@dataclass(frozen=True)
class Corpus:
    """The items that are searched, by id, and the index of their identifiers."""

    items: dict[str, Item]
    index: IdentifierIndex


def build_corpus(checkpoint: Checkpoint, prompts: Prompts, direction: str, items: Sequence[Item]) -> Corpus:
    """Index items by the tokens of their identifiers, as the model was trained to write them.

    Items that share an identifier keep their order.

    Raises:
        UserError: no item, or the model does not know the items' cluster tokens.
    """
    if not items:
        raise UserError("there is no item to search; choose another --split, or make identifiers for it")
    if direction == "t2i":
        prompt = chat_prompt(checkpoint.tokenizer, prompts.render("identify_t2i", query=""))
    else:
        prompt = expand_images(chat_prompt(checkpoint.tokenizer, prompts.render("identify_i2t", image=IMAGE)), [1])
    texts = dict.fromkeys(item.identifier for item in items)
    tokens = {text: answer_tokens(checkpoint.tokenizer, prompt, text) for text in texts}
    _check_cluster_tokens(checkpoint, items[0].identifier)
    sequences = [tokens[item.identifier] for item in items]
    index = IdentifierIndex.from_sequences(sequences, [item.item_id for item in items])
    return Corpus({item.item_id: item for item in items}, index.to(checkpoint.device))


def query_inputs(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: str,
    queries: Sequence[str],
    features: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return what the model takes for a batch of queries.

    Args:
        checkpoint: the identifier model.
        prompts: hold "identify_t2i" and "identify_i2t".
        direction: "t2i" (queries are sentences) or "i2t" (queries are image ids).
        queries: one batch.
        features: the visual features of the query images, by id; not used for t2i.
    """
    if direction == "t2i":
        turns = [prompts.render("identify_t2i", query=query) for query in queries]
        return model_inputs(checkpoint, make_prompts(checkpoint, turns))
    turn = prompts.render("identify_i2t", image=IMAGE)
    images = [[features[query]] for query in queries]
    return model_inputs(checkpoint, make_prompts(checkpoint, [turn] * len(queries), images))


def generate(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: str,
    queries: Sequence[str],
    features: Mapping[str, torch.Tensor],
    corpus: Corpus,
    *,
    num_beams: int = 20,
    batch_size: int = 32,
    engine: Engine = "semcore",
) -> list[list[GeneratedHit]]:
    """Return each query's items, best first: at most as many as beams.

    Args:
        checkpoint: the identifier model.
        prompts: hold "identify_t2i" and "identify_i2t".
        direction: "t2i" (queries are sentences) or "i2t" (queries are image ids).
        queries: in any order; those of about equal length should stand together.
        features: the visual features of the query images, by id; not used for t2i.
        corpus: what is searched.
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
    """Put the items of each sequence in its place; items of one identifier stand in the index's order."""
    queries = []
    for sequences, scores in zip(result.sequences, result.scores.tolist(), strict=True):
        hits = [
            GeneratedHit(item_id, corpus.items[item_id].identifier, score)
            for sequence, score in zip(sequences, scores, strict=False)
            for item_id in corpus.index.items(sequence)
        ]
        queries.append(hits[:most])
    return queries


def _check_cluster_tokens(checkpoint: Checkpoint, identifier: str) -> None:
    cluster = identifier[: identifier.find("|>") + 2] if identifier.startswith("<|") else ""
    if cluster and cluster not in checkpoint.tokenizer.get_vocab():
        raise UserError(
            f"{checkpoint.path} does not know the token {cluster} of the identifiers; it was trained on others: "
            "train it again with recipes/train_identifier.py"
        )

from types import SimpleNamespace

import torch

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.decoding import IdentifierIndex
from semcore.evaluation.ablations import without_verification
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.generator import generate_without_trie
from semcore.retrieval.hits import GeneratedHit


def test_a_suffix_decides_between_equals_only():
    hits = [GeneratedHit(f"item{n}", "same", -1.0) for n in range(8)] + [GeneratedHit("last", "other", -2.0)]
    shuffled = without_verification(hits)
    assert [hit.item_id for hit in shuffled] != [hit.item_id for hit in hits]
    assert sorted(shuffled) == sorted(hits)
    assert shuffled[-1].item_id == "last"
    assert without_verification(list(reversed(hits[:8]))) == shuffled[:8]  # whatever the order before


def session_of(checkpoint):
    return ModelSession(checkpoint, load_prompts(), FeaturesInMemory())


def corpus_of(checkpoint, **texts):
    """An index of texts, whose tokens are those of the text and the end."""
    items = {name: Item(name, name, text, "") for name, text in texts.items()}
    sequences = [[*tokens(checkpoint, text), checkpoint.end_token_id] for text in texts.values()]
    return Corpus(items, IdentifierIndex.from_sequences(sequences, list(items)))


def tokens(checkpoint, text):
    return checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"]


def search(checkpoint, answers, corpus, monkeypatch):
    """Search with the beams of two queries, as `generate` returns them."""
    width = max(len(own) for own in answers)
    filled = torch.tensor([own + [checkpoint.tokenizer.pad_token_id] * (width - len(own)) for own in answers])

    def generate(model, input_ids, **_):
        sequences = torch.cat([input_ids.repeat_interleave(3, dim=0), filled], dim=1)
        return SimpleNamespace(sequences=sequences, sequences_scores=torch.tensor([-1.0, -2.0, -3.0] * 2))

    monkeypatch.setattr(type(checkpoint.model), "generate", generate)
    hits = generate_without_trie(session_of(checkpoint), Direction.T2I, ["a dog", "a cat"], corpus, num_beams=3)
    return [[(hit.item_id, hit.score) for hit in own] for own in hits]


def test_only_identifiers_find_something(lively_checkpoint, monkeypatch):
    texts = ["<|im_end|>", "red dog<|im_end|>", "red", "dog<|im_end|>", "red dog<|im_end|>", "dog red<|im_end|>"]
    corpus = corpus_of(lively_checkpoint, a="red dog", b="red dog", c="dog")
    answers = [tokens(lively_checkpoint, text) for text in texts]
    assert search(lively_checkpoint, answers, corpus, monkeypatch) == [
        [("a", -2.0), ("b", -2.0)],
        [("c", -1.0), ("a", -2.0), ("b", -2.0)],
    ]


def test_other_tokens_that_read_alike_find_nothing(lively_checkpoint, monkeypatch):
    """The tree would not lead there either."""
    text, end = "red dog", lively_checkpoint.end_token_id
    spelt = [token for letter in text for token in tokens(lively_checkpoint, letter)]
    assert lively_checkpoint.tokenizer.decode(spelt) == text
    assert spelt != tokens(lively_checkpoint, text)
    corpus = corpus_of(lively_checkpoint, a=text)
    answers = [[*spelt, end], [end], [*tokens(lively_checkpoint, text), end], [end], [end], [end]]
    assert search(lively_checkpoint, answers, corpus, monkeypatch) == [[("a", -3.0)], []]


def test_free_beams_are_not_bound_to_the_corpus(lively_checkpoint):
    corpus = corpus_of(lively_checkpoint, a="an identifier nobody writes")
    session = session_of(lively_checkpoint)
    assert generate_without_trie(session, Direction.T2I, ["a dog", "two cats"], corpus, num_beams=2) == [[], []]

import torch

from semcore.ablations import generate_without_trie, without_verification
from semcore.evaluation.per_query import GeneratedHit
from semcore.items import Item


def test_a_suffix_decides_between_equals_only():
    hits = [GeneratedHit(f"item{n}", "same", -1.0) for n in range(8)] + [GeneratedHit("last", "other", -2.0)]
    shuffled = without_verification(hits)
    assert [hit.item_id for hit in shuffled] != [hit.item_id for hit in hits]
    assert sorted(shuffled) == sorted(hits)
    assert shuffled[-1].item_id == "last"
    assert without_verification(list(reversed(hits[:8]))) == shuffled[:8]  # whatever the order before


def test_only_texts_that_are_identifiers_find_something(lively_checkpoint, monkeypatch):
    """The beams of two queries, as `generate` returns them."""
    answers = [["<|im_end|>", "red dog<|im_end|>", "red"], ["dog<|im_end|>", "red dog<|im_end|>", "dog red<|im_end|>"]]
    tokenizer = lively_checkpoint.tokenizer
    rows = tokenizer([text for own in answers for text in own], add_special_tokens=False)["input_ids"]
    width = max(map(len, rows))
    filled = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])

    class Output:
        sequences = torch.cat([torch.zeros(6, 2, dtype=torch.long), filled], dim=1)
        sequences_scores = torch.tensor([-1.0, -2.0, -3.0] * 2)

    monkeypatch.setattr(type(lively_checkpoint.model), "generate", lambda self, **_: Output)
    items = {name: Item(name, name, text, "") for name, text in {"a": "red dog", "b": "red dog", "c": "dog"}.items()}
    inputs = {"input_ids": torch.zeros(2, 2), "attention_mask": torch.ones(2, 2)}
    hits = generate_without_trie(lively_checkpoint, inputs, items, num_beams=3, max_new_tokens=5)
    assert [[(hit.item_id, hit.score) for hit in own] for own in hits] == [
        [("a", -2.0), ("b", -2.0)],
        [("c", -1.0), ("a", -2.0), ("b", -2.0)],
    ]


def test_free_beams_are_not_bound_to_the_corpus(lively_checkpoint):
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    items = {"a": Item("a", "a", "an identifier nobody writes", "")}
    assert generate_without_trie(lively_checkpoint, inputs, items, num_beams=2, max_new_tokens=3) == [[], []]

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from semcore.training.collator import Collator
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import StoredFeatures
from semcore.training.packing import IGNORED, collate, merge, pack, row_length, shared_prefix

IMAGE_START, IMAGE = 90, 91


def alone(checkpoint, example, features):
    """The log-probability of each answer token, one example a forward pass, no mask, no positions."""
    tokens = torch.tensor([[*example.prompt, *example.answer]])
    embeds = checkpoint.model.get_input_embeddings()(tokens)
    if example.images:
        embeds[tokens == checkpoint.model.config.image_token_id] = torch.cat([features[i] for i in example.images])
    logits = checkpoint.model(inputs_embeds=embeds).logits[0, len(example.prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(example.answer)), list(example.answer)]


@pytest.fixture
def lesson(tiny_checkpoint):
    """Examples that share little, much, and all but their last prompt token; with features for two images."""
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(16, 32, generator=generator) for name in ("a", "b")}
    convert = tiny_checkpoint.tokenizer.convert_tokens_to_ids
    image = [convert("<img>"), *[convert("<IMG_CONTEXT>")] * 16, convert("</img>")]
    examples = [
        Example([105, 106, 107, 108, 109], [120, 121, 122]),
        Example([105, 106, 107, 130, 131, 132, 109], [123]),
        Example([*image, 105, 106], [124, 125], ("a",)),
        Example([*image, 105, 106], [126, 127, 128, 129], ("a",)),
        Example([*image, 105, 106], [124, 125], ("b",)),
        Example([*image, 105, *image, 106], [124, 125], ("b", "a")),
    ]
    return tiny_checkpoint, examples, features, convert("<img>")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("groups", [[[0, 1], [2, 3], [4, 5]], [[0], [1, 0], [2, 4, 5]], [[3, 2], [5]]])
def test_a_row_gives_every_example_the_loss_it_has_alone(lesson, groups, attention):
    checkpoint, examples, features, start = lesson
    checkpoint.model.set_attn_implementation(attention)
    rows = [merge([examples[number] for number in group], start) for group in groups]
    collator = Collator(StoredFeatures(features), 0, checkpoint.model.config.image_token_id)
    batch = collator(rows)
    labels = batch["shift_labels"]
    with torch.no_grad():
        logits = checkpoint.model(**batch).logits
        expected = [alone(checkpoint, examples[number], features) for group in groups for number in group]
    found = -functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    torch.testing.assert_close(found[labels.flatten() != IGNORED], torch.cat(expected), atol=1e-4, rtol=1e-4)


def test_the_models_own_loss_is_the_mean_over_the_answers(lesson):
    checkpoint, examples, features, start = lesson
    collator = Collator(StoredFeatures(features), 0, checkpoint.model.config.image_token_id)
    with torch.no_grad():
        loss = checkpoint.model(**collator([merge(examples[:2], start), merge(examples[2:], start)])).loss
        expected = -torch.cat([alone(checkpoint, example, features) for example in examples]).mean()
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def test_half_precision_has_no_nan(lesson):
    checkpoint, examples, features, start = lesson
    batch = Collator(StoredFeatures(features), 0, checkpoint.model.config.image_token_id)(
        [merge(examples[:1], start), merge(examples[2:], start)]
    )
    batch["attention_mask"] = batch["attention_mask"].bfloat16()
    assert checkpoint.model.bfloat16()(**batch).loss.isfinite()


def test_the_prefix_ends_before_the_first_other_image():
    first = Example([1, IMAGE_START, IMAGE, 2, IMAGE_START, IMAGE, 3, 4], [0], ("a", "b"))
    other = Example([1, IMAGE_START, IMAGE, 2, IMAGE_START, IMAGE, 3, 4], [0], ("a", "c"))
    assert shared_prefix(first, other, IMAGE_START) == 4
    assert shared_prefix(first, first, IMAGE_START) == 7
    row = merge([first, other], IMAGE_START)
    assert row.images == ["a", "b", "c"]
    assert row.input_ids == [1, IMAGE_START, IMAGE, 2, IMAGE_START, IMAGE, 3, IMAGE_START, IMAGE, 3, 4, 4]


def test_packing_keeps_order_and_length():
    examples = [Example([1, 2, 3 + number % 2, 9], [5] * (1 + number % 3)) for number in range(20)]
    rows = list(pack(examples, 12, IMAGE_START))
    assert [example for row in rows for example in row] == examples
    lengths = [len(merge(row, IMAGE_START).input_ids) for row in rows]
    assert lengths == [row_length(row, IMAGE_START) for row in rows]
    assert max(lengths) <= 12
    for row, after in pairwise(rows):
        assert row_length([*row, after[0]], IMAGE_START) > 12


def test_an_example_longer_than_a_row_gets_its_own():
    examples = [Example([1, 2], [5] * 3), Example(list(range(50)), [5]), Example([1, 2], [5] * 3)]
    assert [len(row) for row in pack(examples, 12, IMAGE_START)] == [1, 1, 1]


def test_lengths_are_rounded_up_and_labels_stand_at_the_end():
    batch = collate([merge([Example([1, 2, 3], [7, 8])], 99), merge([Example([1] * 9, [7])], 99)], pad_token_id=0)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["shift_labels"].tolist() == [[IGNORED, 7, 8], [IGNORED, IGNORED, 7]]
    assert batch["logits_to_keep"] == 3

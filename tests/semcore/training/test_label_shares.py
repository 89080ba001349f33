"""Labels that several tokens share: the loss is what a slow sum over the tokens gives, wherever the rows lie."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from semcore.data.directions import Direction
from semcore.models.prompts import load_prompts
from semcore.models.tokenization import IMAGE_START
from semcore.training.block_packing import make_block_row
from semcore.training.chunked_loss import chunked_loss, summed_cross_entropy
from semcore.training.collator import Collator
from semcore.training.image_inputs import StoredFeatures
from semcore.training.packing import CHOICES, IGNORED, SHARES, merge
from semcore.training.verifier_questions import CandidateSet, QuestionMaker, QuestionSeed
from tests.semcore.training.test_block_packing import RECORDS, SETS
from tests.semcore.verification.block_models import FEATURES

VISUALS = StoredFeatures(FEATURES)


@pytest.mark.parametrize("chunk_size", [100, 4, 1])
def test_the_loss_of_shared_labels_is_the_mean_over_their_tokens(chunk_size):
    generator = torch.Generator().manual_seed(0)
    head, states = nn.Linear(6, 11), torch.randn(9, 6, generator=generator)
    labels = torch.stack([torch.randperm(11, generator=generator)[:3] for _ in range(9)])
    shares = torch.rand(9, 3, generator=generator).softmax(-1)
    expected = sum(
        share * functional.cross_entropy(head(state), label)
        for state, own, weights in zip(states, labels, shares, strict=True)
        for label, share in zip(own, weights, strict=True)
    )
    found = summed_cross_entropy(head, states, labels, chunk_size, shares)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, head.weight)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def batch_of(checkpoint, directions, make_row):
    maker = QuestionMaker(checkpoint.tokenizer, load_prompts(), RECORDS, VISUALS, 2)
    rows = [make_row(maker, QuestionSeed(SETS[direction], str(n))) for n, direction in enumerate(directions)]
    return Collator(VISUALS, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)(rows)


@pytest.mark.parametrize("blocks", [False, True])
def test_a_model_learns_from_all_right_letters(pristine_checkpoint, blocks):
    checkpoint = pristine_checkpoint
    start = checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START)
    make_row = make_block_row if blocks else lambda maker, seed: merge(maker(seed), start)
    batch = batch_of(checkpoint, ["t2i", "i2t"], make_row)
    model = checkpoint.model
    logits = model(**{name: value for name, value in batch.items() if name not in (CHOICES, SHARES)}).logits
    terms = []
    for row, column in (batch["shift_labels"] != IGNORED).nonzero().tolist():
        tokens, shares = batch[CHOICES][row, column], batch[SHARES][row, column]
        assert shares.sum() == pytest.approx(1)
        assert batch["shift_labels"][row, column] in tokens[shares > 0]
        terms.append(-(logits[row, column].log_softmax(-1)[tokens] * shares).sum())
    with chunked_loss(model):
        found = model(**batch).loss
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_every_right_sentence_has_an_equal_share(pristine_checkpoint):
    items = SETS["i2t"].items
    image_id = items[0].image_id
    own = CandidateSet(Direction.I2T, image_id, image_id, (items[0], items[0], *items[1:]))
    maker = QuestionMaker(pristine_checkpoint.tokenizer, load_prompts(), RECORDS, VISUALS, 0)
    [example] = maker(QuestionSeed(own, "0"))
    num_right = sum(item.image_id == image_id for item in own.items)
    assert num_right > 1
    assert list(example.shares.values()) == [1 / num_right] * num_right
    assert example.answer[0] in example.shares

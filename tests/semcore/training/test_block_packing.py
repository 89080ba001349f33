"""Rows of candidate blocks train the questions that a `BlockReader` answers."""

import pytest
import torch

from semcore.data.dataset import ImageRecord, Sentence
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.models.prompts import load_prompts
from semcore.models.tokenization import IMAGE_START
from semcore.training.block_packing import make_block_row
from semcore.training.collator import Collator
from semcore.training.image_inputs import StoredFeatures
from semcore.training.packing import merge
from semcore.training.schedule import plan_question_rows
from semcore.training.verifier_questions import CandidateSet, QuestionMaker, QuestionSeed
from semcore.verification import option_tokens
from semcore.verification.block_inference import BlockReader
from tests.semcore.verification.block_models import FEATURES, IMAGES, SENTENCES, checkpoint_with

RECORDS = [ImageRecord(i, "", "train", (Sentence(f"t{i}", f"text about {i}"),), "") for i in FEATURES]
T2I_ITEMS = tuple(Item(c.item_id, c.item_id, "", c.keywords) for c in IMAGES)
I2T_ITEMS = tuple(Item(c.item_id, f"i{n}", "", c.keywords, text=c.sentence) for n, c in enumerate(SENTENCES))
SETS = {
    "t2i": CandidateSet(Direction.T2I, "a blue star", "i1", T2I_ITEMS),
    "i2t": CandidateSet(Direction.I2T, "i2", "i2", I2T_ITEMS),
}


@pytest.fixture(params=["qwen2", "llama"])
def checkpoint(request, pristine_checkpoint):
    return checkpoint_with(request.param, pristine_checkpoint)


def make_questions(checkpoint, num_extra=2):
    return QuestionMaker(checkpoint.tokenizer, load_prompts(), RECORDS, StoredFeatures(FEATURES), num_extra)


def planned(checkpoint, candidates):
    return plan_question_rows(
        candidates, make_questions(checkpoint), image_start_id=0, num_epochs=2, batch_size=2, max_steps=None, seed=0,
        attention="blocks",
    )  # fmt: skip


def collate(checkpoint, rows):
    tokenizer = checkpoint.tokenizer
    return Collator(StoredFeatures(FEATURES), tokenizer.pad_token_id, checkpoint.model.config.image_token_id)(rows)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.inference_mode()
def test_a_row_has_the_logits_that_inference_gets(checkpoint, attention):
    """Both directions in one padded batch, several questions a row."""
    questions, options = make_questions(checkpoint), option_tokens(checkpoint.tokenizer)
    question_seeds = [QuestionSeed(SETS["t2i"], "0"), QuestionSeed(SETS["i2t"], "1")]
    rows = [make_block_row(questions, question_seed) for question_seed in question_seeds]
    assert len({len(row.input_ids) for row in rows}) == 2
    reader = BlockReader(checkpoint, load_prompts())
    checkpoint.model.set_attn_implementation(attention)
    logits = checkpoint.model(**collate(checkpoint, rows)).logits
    for question_seed, own in zip(question_seeds, logits, strict=True):
        drawn = questions.draw(question_seed)
        asked = [one.question for one in drawn]
        expected = reader.read_options(question_seed.candidates.direction, asked, FEATURES, options)
        torch.testing.assert_close(own[-len(drawn) :, options], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("direction", list(Direction))
def test_the_same_questions_are_asked_as_with_full_attention(checkpoint, direction):
    """A row has the labels of the merged one; read without the copies of the head, its tails end as the prompts do."""
    questions, question_seed = make_questions(checkpoint), QuestionSeed(SETS[direction], "3")
    examples, row = questions(question_seed), make_block_row(questions, question_seed)
    full = merge(examples, checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START))
    assert (row.labels, row.images) == (full.labels, full.images)
    first = max(row.branches) - len(examples) + 1
    copies = range(5, first, 4)  # from the second slot on
    for branch, example in enumerate(examples, start=first):
        own = [
            (position, token)
            for token, position, of in zip(row.input_ids, row.position_ids, row.branches, strict=True)
            if of == branch or (of < first and of not in copies)
        ]
        assert sorted(own) == list(enumerate(example.prompt))


def test_gradients_reach_every_weight_of_the_text_model(checkpoint):
    rows = planned(checkpoint, list(SETS.values()))
    batch = collate(checkpoint, [rows[0], rows[1]])
    model = checkpoint.model.train()
    model(**batch).loss.backward()
    trained = model.model.language_model.named_parameters()
    assert [name for name, own in trained if own.grad is None or not own.grad.any()] == []

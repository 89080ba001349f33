"""The loss on attention is what a slow reading of all attention gives, and nothing is left of it where it is off."""

import pytest
import torch
from transformers import AttentionInterface

from semcore.models.prompts import load_prompts
from semcore.models.tokenization import IMAGE_START
from semcore.runtime.errors import UserError
from semcore.training.attention_loss import CANDIDATES, RIGHT, supervised_attention, supervised_layers
from semcore.training.block_packing import make_block_row
from semcore.training.chunked_loss import chunked_loss
from semcore.training.collator import Collator
from semcore.training.fine_tune import fine_tune, image_start_id, make_trainable
from semcore.training.image_inputs import StoredFeatures
from semcore.training.launcher import recompute_activations
from semcore.training.packing import merge
from semcore.training.schedule import plan_question_rows
from semcore.training.settings import VerifierTrainingSettings
from semcore.training.verifier_questions import QuestionMaker, QuestionSeed
from semcore.verification.option_logits import LETTERS
from tests.semcore.training.test_block_packing import RECORDS, SETS
from tests.semcore.verification.block_models import FEATURES, checkpoint_with

VISUALS = StoredFeatures(FEATURES)
SEEDS = [QuestionSeed(SETS["t2i"], "0"), QuestionSeed(SETS["i2t"], "1")]


@pytest.fixture(params=["qwen2", "llama"])
def checkpoint(request, pristine_checkpoint):
    return checkpoint_with(request.param, pristine_checkpoint)


def question_maker(checkpoint, *, marked=True, prompts=None):
    return QuestionMaker(checkpoint.tokenizer, prompts or load_prompts(), RECORDS, VISUALS, 2, marked=marked)


def batch_of(checkpoint, *, marked=True, blocks=False):
    """Both directions, three questions a row, rows of two lengths."""
    maker = question_maker(checkpoint, marked=marked)
    start = checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START)
    rows = [make_block_row(maker, seed) if blocks else merge(maker(seed), start) for seed in SEEDS]
    return Collator(VISUALS, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)(rows)


def without_marks(batch):
    return {name: value for name, value in batch.items() if name not in (CANDIDATES, RIGHT)}


def right_shares(model, batch):
    """The right candidate's share by layer, row, question and head, read from all attention of an eager pass."""
    chosen = model.config.text_config._attn_implementation
    model.set_attn_implementation("eager")
    attentions = model(**without_marks(batch), output_attentions=True).attentions
    model.set_attn_implementation(chosen)
    candidates, right = batch[CANDIDATES], batch[RIGHT]
    shares = []
    for layer in supervised_layers(len(attentions)):
        for row, window in enumerate(right):
            for place, number in enumerate(window):
                if number == 0:
                    continue
                paid = attentions[layer][row, :, place - len(window)]
                for head in paid:
                    among = sum(head[token] for token, own in enumerate(candidates[row]) if own > 0)
                    found = sum(head[token] for token, own in enumerate(candidates[row]) if own == number)
                    shares.append(found / among)
    return torch.stack(shares)


def test_tokens_are_marked_with_the_candidate_that_they_show(checkpoint):
    maker = question_maker(checkpoint)
    for seed in SEEDS:
        for example, plain in zip(maker(seed), question_maker(checkpoint, marked=False)(seed), strict=True):
            assert (example.prompt, example.answer, example.images) == (plain.prompt, plain.answer, plain.images)
            assert not plain.candidates
            drawn = maker.draw(seed)[maker(seed).index(example)]
            for number, choice in enumerate(drawn.question.choices, start=1):
                shown = checkpoint.tokenizer.decode(
                    [token for token, own in zip(example.prompt, example.candidates, strict=True) if own == number]
                )
                assert shown.startswith(f"{LETTERS[number - 1]}. ")
                assert choice.keywords in shown
                assert choice.sentence in shown
                assert shown.endswith(".\n")
            assert example.right == 1 + maker.letters.index(example.answer[0])


@pytest.mark.parametrize("blocks", [False, True])
def test_both_layouts_mark_the_same_candidates(checkpoint, blocks):
    batch = batch_of(checkpoint, blocks=blocks)
    assert batch[CANDIDATES].shape == batch["input_ids"].shape
    assert batch[RIGHT].shape == batch["labels"].shape
    letters = question_maker(checkpoint).letters
    for label, right in zip(batch["labels"].flatten().tolist(), batch[RIGHT].flatten().tolist(), strict=True):
        assert right == (0 if label == -100 else 1 + letters.index(label))
    for row, numbers in enumerate(batch[CANDIDATES]):
        for number, letter in enumerate(letters[: int(numbers.max())], start=1):
            assert batch["input_ids"][row][numbers == number][0] == letter


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("chunked", [True, False])
def test_the_loss_is_the_slow_readings(checkpoint, implementation, chunked, blocks):
    model = checkpoint.model.train()
    model.set_attn_implementation(implementation)
    batch = batch_of(checkpoint, blocks=blocks)
    letters = model(**without_marks(batch), num_items_in_batch=10).loss
    num_labels = int((batch["labels"] != -100).sum())
    expected = -right_shares(model, batch).log().mean() * num_labels / 10

    def found():
        with supervised_attention(model, 0.5):
            return model(**batch, num_items_in_batch=10).loss

    if chunked:
        with chunked_loss(model):
            loss = found()
    else:
        loss = found()
    torch.testing.assert_close(loss, letters + 0.5 * expected, atol=1e-5, rtol=1e-5)
    assert model.config.text_config._attn_implementation == implementation


def gradients(model, batch, weight):
    model.zero_grad()
    with chunked_loss(model), supervised_attention(model, weight):
        model(**batch).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_are_those_of_the_slow_reading(checkpoint):
    model, batch = checkpoint.model.train(), batch_of(checkpoint)
    found = gradients(model, batch, 2.0)
    model.zero_grad()
    (model(**without_marks(batch)).loss - 2.0 * right_shares(model, batch).log().mean()).backward()
    plain = gradients(model, without_marks(batch), 0.0)
    moved = 0
    for name, parameter in model.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], parameter.grad, atol=2e-5, rtol=1e-4, msg=name)
            moved += not torch.allclose(found[name], plain[name], atol=1e-6)
    assert moved > 5


def test_recomputed_activations_give_the_same_gradients(checkpoint):
    model, batch = checkpoint.model.train(), batch_of(checkpoint)
    plain = gradients(model, batch, 2.0)
    recompute_activations(model)
    for name, gradient in gradients(model, batch, 2.0).items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-6, rtol=1e-5, msg=name)


def test_evaluation_is_by_the_letter_alone(checkpoint):
    model, batch = checkpoint.model.eval(), batch_of(checkpoint)
    expected = model(**without_marks(batch)).loss
    with supervised_attention(model, 3.0):
        assert model(**batch).loss == expected
        assert model.train()(**batch).loss > expected


def test_without_a_weight_nothing_is_installed(checkpoint):
    batch = batch_of(checkpoint, marked=False)
    assert batch.keys() == without_marks(batch).keys()
    before = (checkpoint.model.config.text_config._attn_implementation, checkpoint.model.loss_function)
    with supervised_attention(checkpoint.model, 0.0):
        assert (checkpoint.model.config.text_config._attn_implementation, checkpoint.model.loss_function) == before
        assert not checkpoint.model._forward_pre_hooks


def train(checkpoint, folder, *, rank=0, marked=True, **changes):
    """Train on two sets of four candidates or so; return the manifest's entry."""
    settings = VerifierTrainingSettings(
        learning_rate=3e-3, num_epochs=60, max_steps=60, batch_size=2, micro_batch_size=1, bf16="no",
        gradient_checkpointing=False, save_steps=60, **changes,
    )  # fmt: skip
    maker = question_maker(checkpoint, marked=marked)
    sets = [seed.candidates for seed in SEEDS]
    rows = plan_question_rows(sets, maker, image_start_id=image_start_id(checkpoint), **settings.schedule())
    model = make_trainable(
        checkpoint.model, True, True, rank=rank, alpha=None, dropout=0.0, target_modules=["q_proj", "k_proj"],
        new_token_ids=[],
    )  # fmt: skip
    how = settings.optimization()
    return fine_tune(checkpoint, model, rows, VISUALS, folder, prompts={}, description="test", **how), model


@pytest.mark.parametrize("rank", [0, 4])
def test_attention_moves_to_the_right_candidate(checkpoint, tmp_path, rank):
    """More than a training on the letter alone moves it, in batches of a step that add up."""
    batch = batch_of(checkpoint)
    before = right_shares(checkpoint.model, batch).mean().item()
    _, model = train(checkpoint, tmp_path / "model", rank=rank, attention_loss=1.0)
    inner = model.get_base_model() if rank else model
    assert right_shares(inner.eval(), batch).mean().item() > before + 0.2


def test_marks_alone_change_no_weight(pristine_checkpoint, tmp_path):
    """A training with weight 0 learns to the bit what one without the option learns."""
    weights = []
    for changes in ({}, {"attention_loss": 0.0}):
        checkpoint = checkpoint_with("qwen2", pristine_checkpoint)
        _, model = train(checkpoint, tmp_path / "model", marked=False, max_steps=3, **changes)
        weights.append(model.state_dict())
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_every_architectures_own_products_are_called(checkpoint):
    model = checkpoint.model.train()
    model.set_attn_implementation("eager")
    with supervised_attention(model, 1.0):
        assert "supervised_eager" in AttentionInterface()
        assert model.config.vision_config._attn_implementation == "eager"
        attentions = model(**batch_of(checkpoint), output_attentions=True).attentions
    assert len(attentions) == model.config.text_config.num_hidden_layers
    assert all(attention is not None for attention in attentions)


def test_a_prompt_that_hides_its_candidates_is_refused(checkpoint, tmp_path):
    for path in (load_prompts.__globals__["prompts_folder"]() if False else ()):
        raise AssertionError(path)

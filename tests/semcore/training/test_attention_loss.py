"""The loss on attention is what a slow reading of all attention gives, and nothing is left of it where it is off."""

import shutil

import pytest
import torch
from transformers import AttentionInterface

from semcore.models.prompts import load_prompts
from semcore.models.tokenization import IMAGE_START
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import resource_folder
from semcore.training.attention_loss import CANDIDATES, RIGHT, supervised_attention, supervised_layers
from semcore.training.block_packing import make_block_row
from semcore.training.chunked_loss import chunked_loss
from semcore.training.collator import Collator
from semcore.training.fine_tune import fine_tune, image_start_id, make_trainable
from semcore.training.image_inputs import StoredFeatures
from semcore.training.launcher import recompute_activations
from semcore.training.packing import merge
from semcore.training.schedule import plan_question_rows
from semcore.training.settings import TrainingSettings, VerifierTrainingSettings
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
    found, plain = gradients(model, batch, 2.0), gradients(model, without_marks(batch), 0.0)
    model.zero_grad()
    (model(**without_marks(batch)).loss - 2.0 * right_shares(model, batch).log().mean()).backward()
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


@pytest.mark.parametrize("rank", [0, 4])
def test_attention_moves_to_the_right_candidate(checkpoint, rank):
    model = make_trainable(
        checkpoint.model, True, True, rank=rank, alpha=None, dropout=0.0, target_modules=["q_proj", "k_proj"],
        new_token_ids=[],
    ).train()  # fmt: skip
    batch = batch_of(checkpoint)
    before = right_shares(checkpoint.model, batch).mean()
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), 3e-3)
    with chunked_loss(model), supervised_attention(model, 3.0):
        for _ in range(40):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
    assert right_shares(checkpoint.model, batch).mean() > before + 0.2


def train(checkpoint, folder, settings, *, marked):
    maker = question_maker(checkpoint, marked=marked)
    sets = [seed.candidates for seed in SEEDS]
    rows = plan_question_rows(sets, maker, image_start_id=image_start_id(checkpoint), **settings.schedule())
    model = make_trainable(
        checkpoint.model, True, True, rank=0, alpha=None, dropout=0.0, target_modules=[], new_token_ids=[]
    )
    how = settings.optimization()
    fine_tune(checkpoint, model, rows, VISUALS, folder, prompts={}, description="test", **how)
    return model.state_dict()


def test_weight_zero_trains_the_same_weights_to_the_bit(pristine_checkpoint, tmp_path):
    usual = {
        "num_epochs": 9, "max_steps": 2, "batch_size": 2, "micro_batch_size": 1, "bf16": "no", "save_steps": 9,
    }  # fmt: skip
    ways = {
        "plain": (TrainingSettings(**usual), False),
        "zero": (VerifierTrainingSettings(**usual), False),
        "one": (VerifierTrainingSettings(**usual, attention_loss=1.0), True),
    }
    weights = {
        name: train(checkpoint_with("qwen2", pristine_checkpoint), tmp_path / name, settings, marked=marked)
        for name, (settings, marked) in ways.items()
    }
    assert all(torch.equal(weight, weights["zero"][name]) for name, weight in weights["plain"].items())
    assert not all(torch.equal(weight, weights["one"][name]) for name, weight in weights["plain"].items())


def test_a_step_in_several_batches_is_a_step_in_one(checkpoint):
    """`Trainer` divides by the labels of all batches of a step and adds the gradients up."""
    maker, start = question_maker(checkpoint), image_start_id(checkpoint)
    rows = [merge(maker(seed), start) for seed in SEEDS]
    collator = Collator(VISUALS, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    count, model = sum(len(row.labels) for row in rows), checkpoint.model.train()
    with chunked_loss(model), supervised_attention(model, 2.0):
        whole = model(**collator(rows), num_items_in_batch=count).loss
        parts = [model(**collator([row]), num_items_in_batch=count).loss for row in rows]
    torch.testing.assert_close(sum(parts), whole, atol=1e-5, rtol=1e-5)


def test_every_architectures_own_products_are_called(checkpoint):
    model = checkpoint.model.train()
    model.set_attn_implementation("eager")
    with supervised_attention(model, 1.0):
        assert "supervised_eager" in AttentionInterface()
        assert model.config.vision_config._attn_implementation == "eager"
        attentions = model(**batch_of(checkpoint), output_attentions=True).attentions
    assert len(attentions) == model.config.text_config.num_hidden_layers
    assert all(attention is not None for attention in attentions)


@pytest.mark.parametrize(
    "line", ["Image: {{ candidate.image }} ({{ candidate.label }})", "{{ candidate.label }}{{ loop.index }}"]
)
def test_a_prompt_whose_candidates_cannot_be_told_apart_is_refused(checkpoint, tmp_path, line):
    folder = shutil.copytree(resource_folder("prompts"), tmp_path / "prompts")
    line += "" if "image" in line else " {{ candidate.image }}"
    template = "{% for candidate in candidates %}" + line + "{{ candidate.keywords }}\n{% endfor %}{{ query }}"
    (folder / "verify_t2i.jinja").write_text(template)
    prompts = load_prompts(folder)
    question_maker(checkpoint, marked=False, prompts=prompts)
    with pytest.raises(UserError, match=r"--training.attention-loss .*verify_t2i.jinja"):
        question_maker(checkpoint, prompts=prompts)


def test_a_query_may_stand_before_its_candidates(checkpoint, tmp_path):
    """Then every question of a row has candidates of its own, and sees no other's."""
    folder = shutil.copytree(resource_folder("prompts"), tmp_path / "prompts")
    template = folder / "verify_t2i.jinja"
    template.write_text("Sentence: {{ query }}\n" + template.read_text().replace("Sentence: {{ query }}\n", ""))
    maker = question_maker(checkpoint, prompts=load_prompts(folder))
    row = merge(maker(SEEDS[0]), checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_START))
    assert row.candidates.count(1) > 2 * list(maker(SEEDS[0])[0].candidates).count(1)
    model = checkpoint.model.train()
    tokenizer = checkpoint.tokenizer
    batch = Collator(VISUALS, tokenizer.pad_token_id, model.config.image_token_id)([row])
    letters, expected = model(**without_marks(batch)).loss, -right_shares(model, batch).log().mean()
    with supervised_attention(model, 1.0):
        torch.testing.assert_close(model(**batch).loss, letters + expected, atol=1e-5, rtol=1e-5)

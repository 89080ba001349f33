import math
import random
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from data_prep.scenes.pretraining.courses import Lessons, Term
from data_prep.scenes.pretraining.lesson_data import LessonData, ScenePool
from data_prep.scenes.pretraining.lesson_prompts import load_lesson_prompts
from data_prep.scenes.pretraining.losses import (
    LOOKUP_LAYERS,
    SMALLEST_SHARE,
    WORD_SCALE,
    LossWeights,
    first_head_attention,
    kept_word_loss,
    lookup_loss,
    said_loss,
    total_loss,
    visual_word_loss,
    watch,
)
from data_prep.scenes.pretraining.model import VISUAL_TOKENS, build_model
from data_prep.scenes.pretraining.shared_prefix import IGNORED
from data_prep.scenes.pretraining.visual_words import word_group_tokens
from data_prep.scenes.scene_graph import COLOURS, SHAPES
from semcore.models.checkpoint import load_tokenizer
from semcore.runtime.packaged_files import resource_folder

ONLY = LossWeights(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def data():
    tokenizer = load_tokenizer(resource_folder("assets") / "scenes_base")
    prompts = load_lesson_prompts(resource_folder("prompts"), tokenizer.get_added_vocab())
    return LessonData(tokenizer, prompts, ScenePool(8, seed=3), [], [*COLOURS, *SHAPES, "the", "of"], VISUAL_TOKENS)


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    return build_model(data.tokenizer, text_layers=4, hidden_size=32).eval()


def batch_of(data, lesson, weights=ONLY, rows=2):
    term = Term(1, {lesson: (1.0, rows)}, weights)
    return Lessons(data, [term], 0).batch(term, random.Random(1))


def whole(model, batch, **more):
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask", "pixel_values")}
    return model(**inputs, use_cache=False, **more)


def test_lookups_are_what_the_library_says_head_0_attends_to(data, model):
    batch = batch_of(data, "choose_image:2", rows=1)
    model.model.language_model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = whole(model, batch, output_attentions=True).attentions
        with watch(model) as seen:
            whole(model, batch)
        for number in LOOKUP_LAYERS:
            attention = model.model.language_model.layers[number].self_attn
            ours = first_head_attention(attention, *seen.attended[number], batch["attention_mask"])
            torch.testing.assert_close(ours, attentions[number][:, 0], atol=1e-5, rtol=1e-4)
        shares = [
            sum(attentions[number][row, 0, place][target].item() for target in targets.nonzero())
            for number in LOOKUP_LAYERS
            for (row, place), targets in zip(batch["lookup_places"].tolist(), batch["lookup_targets"], strict=True)
        ]
        by_hand = -sum(math.log(share + SMALLEST_SHARE) for share in shares) / len(shares)
        assert lookup_loss(model, seen, batch).item() == pytest.approx(by_hand, rel=1e-3)


def test_a_loss_counts_its_labels_alone(data, model):
    states = torch.randn(2, 5, 32)
    labels = torch.full((2, 5), IGNORED)
    assert said_loss(model, states, labels) == 0
    labels[0, 2], labels[1, 4] = 7, 9
    logits = model.lm_head(states).log_softmax(-1)
    by_hand = -(logits[0, 2, 7] + logits[1, 4, 9]) / 2
    torch.testing.assert_close(said_loss(model, states, labels), by_hand)


def test_the_answers_loss_is_the_librarys(data, model):
    batch = batch_of(data, "choose_image:3", replace(ONLY, answer=1.0))
    with torch.no_grad():
        ours = total_loss(model, batch, word_group_tokens(data.tokenizer))
        theirs = whole(model, batch, labels=batch["labels"]).loss
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["answer", "hint", "lookup", "words", "kept_words"])
def test_each_loss_alone_falls_when_it_is_trained(data, model, name):
    torch.manual_seed(0)
    learner = build_model(data.tokenizer, text_layers=4, hidden_size=32)
    batch = batch_of(data, "choose_image:2", replace(ONLY, **{name: 1.0}), rows=1)
    groups = word_group_tokens(data.tokenizer)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    losses = []
    for _ in range(5):
        loss = total_loss(learner, batch, groups)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


def test_features_that_are_the_sum_of_their_words_say_them(data, model):
    groups = word_group_tokens(data.tokenizer)
    embeddings = model.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight[torch.cat(groups)] = torch.eye(len(torch.cat(groups)), 32)
        words = torch.tensor([[[1, 2, 3, 0, 1, 2]]])
        right = sum(embeddings.weight[group[word]] for group, word in zip(groups, words[0, 0], strict=True))
        loss = visual_word_loss(model, right[None, None], words, groups)
        wrong = visual_word_loss(model, -right[None, None], words, groups)
    assert loss < 0.5 < wrong - WORD_SCALE / 4


def test_captions_look_from_another_layer(data, model):
    batch = batch_of(data, "describe_image:0")
    assert batch["lookup_of_answer"].all()
    with torch.no_grad(), watch(model) as seen:
        whole(model, batch)
    for number in LOOKUP_LAYERS:
        del seen.attended[number]
    assert lookup_loss(model, seen, batch) > 0


def test_words_are_kept_where_their_order_within_a_group_is_right(data, model):
    groups = word_group_tokens(data.tokenizer)
    batch = batch_of(data, "describe_image:0", rows=1)
    with torch.no_grad(), watch(model) as seen:
        whole(model, batch)
    visual = batch["input_ids"] == data.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    before = kept_word_loss(model, seen, batch, groups)
    for states in seen.entered.values():
        own = states[visual]
        for token, words in enumerate(batch["visual_words"][0].tolist()):
            said = [group[word] for group, word in zip(groups, words, strict=True) if word < len(group)]
            own[token] = model.get_input_embeddings().weight[torch.stack(said)].sum(0)
        states[visual] = own
    assert kept_word_loss(model, seen, batch, groups) < 0.7 * before


def test_images_alone_teach_their_words(data, model):
    batch = batch_of(data, "name_things")
    assert "input_ids" not in batch
    assert total_loss(model, batch, word_group_tokens(data.tokenizer)) > 0


def test_a_fresh_model_looks_up_what_is_equal_and_stays_a_plain_one(data, tmp_path):
    torch.manual_seed(1)
    model = build_model(data.tokenizer).eval()
    rng = random.Random(0)
    words = rng.sample(range(300, 1200), 40)
    sought = rng.randrange(40)
    ids = torch.tensor([[*words, words[sought]]])
    mask = torch.full((1, 1, 41, 41), torch.finfo(torch.float32).min).triu(1)
    with torch.no_grad(), watch(model) as seen:
        before = model(input_ids=ids, attention_mask=mask, position_ids=torch.arange(41)[None]).logits
    for number in LOOKUP_LAYERS:
        shares = first_head_attention(model.model.language_model.layers[number].self_attn, *seen.attended[number], mask)
        assert shares[0, -1, :-1].argmax() == sought
    attention = model.model.language_model.layers[3].self_attn
    size = attention.head_dim
    state = torch.randn(model.config.text_config.hidden_size)
    written = attention.o_proj.weight[:, :size] @ attention.v_proj.weight[:size] @ state
    assert torch.cosine_similarity(written, state, dim=0) > 0.3
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        after = loaded(input_ids=ids, attention_mask=mask, position_ids=torch.arange(41)[None]).logits
    torch.testing.assert_close(after, before)
    assert type(loaded.model.language_model).__name__ == "Qwen2Model"

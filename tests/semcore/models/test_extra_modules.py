"""Set head and layer fusion: what they compute, that a new fusion changes nothing, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semcore.data.identifier_files import code_row, make_row
from semcore.decoding import IdentifierIndex, constrained_beam_search, generate_with_transformers
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.extra_modules import CONFIG, WEIGHTS, extras_of, split_state, without_extras, write_extras
from semcore.models.inference import load_for_inference
from semcore.models.layer_fusion import LAYER_FUSION, find_layer_fusion, new_layer_fusion, spread_layers
from semcore.models.set_head import (
    SET_HEAD,
    find_set_head,
    item_scores,
    new_set_head,
    padded_units,
    set_vocabulary,
    unit_numbers,
    units_of,
)
from semcore.models.set_inference import set_log_probs, set_weights
from semcore.runtime.errors import UserError


def prompts(lengths: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator, most = torch.Generator().manual_seed(0), max(lengths)
    ids, mask = torch.zeros(len(lengths), most, dtype=torch.long), torch.zeros(len(lengths), most, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, -length:], mask[row, -length:] = torch.randint(100, 160, (length,), generator=generator), 1
    return {"input_ids": ids, "attention_mask": mask}


def test_units_are_codes_and_whole_keywords() -> None:
    assert units_of(make_row("i", "train", 3, ["dog", "ice cream", "dog"])) == ("<|cluster_3|>", "dog", "ice cream")
    codes = code_row("i", "train", -1, [17, 998], ["<|code_0_17|><|code_1_998|>"])
    caption = make_row("i", "train", -1, [])
    caption["identifier"] = "a dog by the sea"
    assert units_of(codes) == ("<|code_0_17|>", "<|code_1_998|>")
    assert units_of(caption) == ("a", "dog", "by", "the", "sea")
    rows = [make_row("i", "train", 3, ["dog"]), make_row("j", "train", 2, ["dog", "cat"])]
    vocabulary = set_vocabulary(rows)
    assert vocabulary == ("<|cluster_2|>", "<|cluster_3|>", "cat", "dog")
    assert unit_numbers(rows, vocabulary[:-1]) == {"<|cluster_3|>dog": [1], "<|cluster_2|>dog cat": [0, 2]}


def test_a_new_head_starts_at_the_rows_of_its_units_tokens(tiny_checkpoint: Checkpoint) -> None:
    model, tokenizer = tiny_checkpoint.model, tiny_checkpoint.tokenizer
    head = new_set_head(model, tokenizer, ["<|im_end|>", "dog"])
    rows = model.get_output_embeddings().weight
    words = tokenizer(" dog", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(head.linear.weight[0], rows[tokenizer.convert_tokens_to_ids("<|im_end|>")])
    torch.testing.assert_close(head.linear.weight[1], rows[words].mean(0))
    assert not head.linear.bias.any()


@pytest.mark.parametrize("pool", ["max", "last"])
def test_the_head_reads_each_prompt_without_its_padding(tiny_checkpoint: Checkpoint, pool: Any) -> None:
    model, inputs = tiny_checkpoint.model, prompts((5, 9, 2))
    head = new_set_head(model, tiny_checkpoint.tokenizer, ["dog", "red", "star"], pool)
    torch.nn.init.normal_(head.linear.bias)
    found, weights = set_log_probs(model, inputs), set_weights(model, inputs)
    for row in range(3):
        kept = inputs["attention_mask"][row].bool()
        with torch.no_grad():
            states = model.get_decoder()(input_ids=inputs["input_ids"][row, kept][None]).last_hidden_state[0]
            pooled = states.max(0).values if pool == "max" else states[-1]
            logits = head.linear.weight @ pooled + head.linear.bias
        torch.testing.assert_close(found[row], torch.softmax(logits, 0).log(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(weights[row], torch.log(1 + logits.relu()), atol=1e-5, rtol=1e-4)


def test_an_items_score_is_the_sum_of_its_units() -> None:
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    units = [[0, 5], [], [3, 1, 2]]
    found = item_scores(weights, padded_units(units))
    for query in range(4):
        assert found[query].tolist() == pytest.approx([sum(weights[query, u].item() for u in own) for own in units])


def test_a_new_fusion_leaves_the_logits_to_the_bit_and_then_counts(tiny_checkpoint: Checkpoint) -> None:
    model, inputs = tiny_checkpoint.model, prompts((5, 9))
    before = model(**inputs).logits
    fusion = new_layer_fusion(model, 3)
    assert fusion.layers == (0,)  # the tiny model has one
    assert torch.equal(model(**inputs).logits, before)
    with torch.no_grad():
        fusion.scales.fill_(0.7)
    after = model(**inputs).logits
    assert not torch.allclose(after, before, atol=1e-3)
    states: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda _m, _i, output: states.append(output)) for layer in
             model.get_decoder().layers]  # fmt: skip
    with torch.no_grad():
        model(**inputs)
        hooks[0].remove()
        hidden, size = states[0], states[0].shape[-1]
        coarse = torch.sigmoid(hidden @ fusion.coarse.weight.T + fusion.coarse.bias)
        gate: Any = fusion.gates[0]
        fine = torch.sigmoid(hidden @ gate.weight[:, :size].T + hidden @ gate.weight[:, size:].T + gate.bias) * hidden
        expected = model.lm_head(model.get_decoder().norm.forward(hidden + 0.7 * coarse + 0.7 * fine))
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)


def test_layers_are_evenly_spread() -> None:
    assert [spread_layers(24, count) for count in (1, 2, 4)] == [(23,), (11, 23), (5, 11, 17, 23)]


def test_the_search_sees_the_fusion_as_generate_does(tiny_checkpoint: Checkpoint) -> None:
    model, inputs = tiny_checkpoint.model, prompts((5, 9, 7))
    with torch.no_grad():
        new_layer_fusion(model, 1).scales.fill_(2.0)
        model.lm_head.weight.mul_(40)
    generator, end = torch.Generator().manual_seed(1), tiny_checkpoint.end_token_id
    sequences = [[*torch.randint(100, 110, (4,), generator=generator).tolist(), end] for _ in range(80)]
    index = IdentifierIndex.from_sequences(sequences, [str(number) for number in range(80)])
    ours = constrained_beam_search(model, inputs, index, num_beams=5)
    theirs = generate_with_transformers(model, inputs, index, num_beams=5)
    assert ours.sequences == theirs.sequences
    torch.testing.assert_close(ours.scores, theirs.scores, atol=1e-3, rtol=1e-4)


@pytest.fixture
def saved(base: Path) -> Path:
    """A checkpoint folder with both modules."""
    checkpoint = load_checkpoint(base)
    new_set_head(checkpoint.model, checkpoint.tokenizer, ["dog", "red"], "last")
    with torch.no_grad():
        new_layer_fusion(checkpoint.model, 2, seed=3).scales.fill_(0.5)
    with without_extras(checkpoint.model):
        checkpoint.model.save_pretrained(base)
        assert extras_of(checkpoint.model) == {}
    write_extras(base, checkpoint.model)
    torch.save(checkpoint.model(**prompts((4, 6))).logits, base.parent / "logits.pt")
    return base


def test_what_is_saved_comes_back(saved: Path) -> None:
    again = load_checkpoint(saved)
    assert set(extras_of(again.model)) == {SET_HEAD, LAYER_FUSION}
    head = find_set_head(again.model)
    assert head is not None and (head.units, head.pool) == (("dog", "red"), "last")
    assert torch.equal(again.model(**prompts((4, 6))).logits, torch.load(saved.parent / "logits.pt"))
    extras, others = split_state({f"base_model.model.{name}": w for name, w in again.model.state_dict().items()})
    assert "layer_fusion.scales" in extras and "set_head.linear.bias" in extras
    assert others and not any("set_head" in name or "fusion" in name for name in others)


def test_a_search_in_bfloat16_keeps_them_exact(saved: Path) -> None:
    model: Any = load_for_inference(saved, dtype="bfloat16", device="cpu").model
    fusion = find_layer_fusion(model)
    assert fusion is not None and fusion.scales.dtype == torch.float32
    assert set_log_probs(model, prompts((4, 6))).dtype == torch.float32
    logits = model(**prompts((4, 6))).logits
    torch.testing.assert_close(logits, torch.load(saved.parent / "logits.pt"), atol=0.1, rtol=0.1)


def test_files_that_do_not_fit_are_one_sentence(saved: Path) -> None:
    weights = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(weights[:50])
    with pytest.raises(UserError, match=f"{WEIGHTS} is damaged .*; copy the whole folder again"):
        load_checkpoint(saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(UserError, match=f"has {CONFIG} and no {WEIGHTS}; copy the whole folder again"):
        load_checkpoint(saved)
    (saved / WEIGHTS).write_bytes(weights)
    (saved / CONFIG).write_text('{"set_head": {"units": ["dog"], "pool": "max"}}')
    with pytest.raises(UserError, match="do not fit the model beside them .*; train it again"):
        load_checkpoint(saved)

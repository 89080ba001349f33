"""Bad input of a search: one clear sentence each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, MptConfig, MptForCausalLM

from semcore.decoding import IdentifierIndex, constrained_beam_search, exhaustive_search
from semcore.errors import UserError
from tests.semcore.decoding import tiny


@pytest.fixture
def index() -> IdentifierIndex:
    return IdentifierIndex.from_sequences([[7, 8, tiny.END], [9, tiny.END]], ["a", "b"])


def sentence_of(model: Any, inputs: dict[str, torch.Tensor], index: IdentifierIndex, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        constrained_beam_search(model, inputs, index, **options)
    return str(error.value)


def test_no_beam(index: IdentifierIndex) -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([4])
    assert sentence_of(model, inputs, index, num_beams=0) == "num_beams must be at least 1, found 0"
    assert sentence_of(model, inputs, index, top_k=-1) == "top_k must be at least 1, found -1"


def test_unknown_normalisation(index: IdentifierIndex) -> None:
    sentence = sentence_of(tiny.qwen2(), tiny.text_prompts([4]), index, normalization="words")
    assert sentence == 'normalization must be "vocabulary" or "identifiers", found \'words\''


def test_a_token_the_model_does_not_have() -> None:
    index = IdentifierIndex.from_sequences([[7, tiny.VOCABULARY]], ["a"])
    sentence = sentence_of(tiny.qwen2(), tiny.text_prompts([4]), index)
    assert sentence.startswith("the index holds token 60 but the model has 60 tokens")


def test_a_prompt_longer_than_the_positions(index: IdentifierIndex) -> None:
    sentence = sentence_of(tiny.qwen2(), tiny.text_prompts([126]), index)
    assert sentence.startswith("a prompt of 126 tokens with an identifier of up to 3 needs more than the model's 128")
    assert constrained_beam_search(tiny.qwen2(), tiny.text_prompts([125]), index).sequences


def test_prompts_padded_on_the_right(index: IdentifierIndex) -> None:
    inputs = {name: tensor.flip(1) for name, tensor in tiny.text_prompts([4, 6]).items()}
    assert sentence_of(tiny.qwen2(), inputs, index).startswith("prompts must be padded on the left")


def test_a_model_without_a_key_value_cache(index: IdentifierIndex) -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, state_size=4)).eval()
    with pytest.raises(UserError, match="MambaForCausalLM keeps no key-value cache of the standard kind"):
        exhaustive_search(model, {"input_ids": torch.tensor([[3, 4]])}, index)


def test_a_model_whose_positions_cannot_be_chosen(index: IdentifierIndex) -> None:
    """ALiBi counts places in the cache, where beams stand side by side."""
    model = MptForCausalLM(MptConfig(vocab_size=60, d_model=16, n_layers=1, n_heads=2)).eval()
    assert sentence_of(model, tiny.text_prompts([4]), index).startswith("MptForCausalLM takes no position_ids")


def test_a_model_with_positions_of_its_own_for_images(index: IdentifierIndex) -> None:
    model, inputs = tiny.internvl(), tiny.image_prompts(1, [4])
    model.config.text_config.rope_parameters["mrope_section"] = [2, 1, 1]
    assert "gives image tokens positions of its own kind" in sentence_of(model, inputs, index)


def test_an_attention_that_takes_no_mask(index: IdentifierIndex) -> None:
    model = tiny.qwen2()
    model.config._attn_implementation_internal = "flash_attention_2"
    assert 'load the model with attn_implementation="sdpa"' in sentence_of(model, tiny.text_prompts([4]), index)


def test_an_index_on_another_device(index: IdentifierIndex) -> None:
    sentence = sentence_of(tiny.qwen2(), tiny.text_prompts([4]), index.to("meta"))
    assert sentence == "the index is on meta but the model on cpu: use index.to('cpu')"


def test_learnt_positions_and_eager_attention_are_fine(index: IdentifierIndex) -> None:
    """GPT-2 counts positions from the first real token, so left padding must not shift them."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2)).eval()
    model.set_attn_implementation("eager")
    inputs = tiny.text_prompts([3, 7])
    result = constrained_beam_search(model, inputs, index)
    for query, found in enumerate(result.sequences):
        expected = [tiny.teacher_forced(model, inputs, query, sequence) for sequence in found]
        assert result.scores[query, :2].tolist() == pytest.approx(expected, abs=1e-4)

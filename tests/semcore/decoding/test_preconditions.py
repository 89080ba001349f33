"""Bad input of a search: one clear sentence each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AttentionInterface,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    RobertaConfig,
    RobertaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from semcore.decoding import IdentifierIndex, constrained_beam_search, exhaustive_search
from semcore.decoding.key_value_cache import cache_name
from semcore.decoding.model_checks import check_model
from semcore.runtime.errors import UserError
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


def test_a_model_with_an_encoder(index: IdentifierIndex) -> None:
    config = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    sentence = sentence_of(T5ForConditionalGeneration(config).eval(), tiny.text_prompts([4]), index)
    assert sentence.startswith("T5ForConditionalGeneration is an encoder-decoder")


def mpt() -> Any:
    """Return a model with ALiBi, which counts places in the cache, where beams stand side by side."""
    return MptForCausalLM(MptConfig(vocab_size=60, d_model=32, n_layers=2, n_heads=8))


def bloom() -> Any:
    """Return a model with ALiBi as well, worked out from the attention mask."""
    return BloomForCausalLM(BloomConfig(vocab_size=60, hidden_size=16, n_layer=1, n_head=2))


def roberta() -> Any:
    """Return a model that counts from the padding token's id on.

    Its weights are large enough for the prompt's influence to be more than a rounding error in bfloat16.
    """
    return RobertaForCausalLM(
        RobertaConfig(
            vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=64, is_decoder=True, initializer_range=0.3,
        )
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", [mpt, bloom, roberta], ids=lambda make: make.__name__)
def test_a_model_whose_positions_cannot_be_chosen(
    index: IdentifierIndex, make: Callable[[], Any], dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    model = make().to(dtype).eval()
    sentence = sentence_of(model, tiny.text_prompts([4]), index)
    assert sentence.startswith(f"{type(model).__name__} takes no position_ids")


def test_a_model_with_positions_of_its_own_for_images(index: IdentifierIndex) -> None:
    """Qwen2-VL places the tokens of an image in time, height and width; without images it counts as others do."""
    text = {**tiny.TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4}
    model: Any = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision)).eval()
    assert constrained_beam_search(model, tiny.text_prompts([4]), index).sequences
    sentence = sentence_of(model, {**tiny.text_prompts([4]), "pixel_values": torch.zeros(1)}, index)
    assert sentence.startswith("Qwen2VLForConditionalGeneration gives image tokens positions of its own kind")


def blind_attention(module: Any, query: Any, key: Any, value: Any, _mask: Any, **_options: Any) -> tuple[Any, None]:
    """Look at everything, whatever the mask says."""
    repeated = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(query, *repeated).transpose(1, 2), None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_attention_that_takes_no_mask(index: IdentifierIndex, dtype: torch.dtype) -> None:
    AttentionInterface.register("blind", blind_attention)
    model = tiny.qwen2().to(dtype)
    model.set_attn_implementation("blind")
    assert 'load the model with attn_implementation="sdpa"' in sentence_of(model, tiny.text_prompts([4]), index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("make", [tiny.qwen2, tiny.llama, tiny.internvl], ids=lambda make: make.__name__)
def test_models_that_a_search_can_trust(make: Any, dtype: torch.dtype) -> None:
    model = make().to(dtype)
    check_model(model, {"pixel_values": torch.zeros(1)})
    check_model(get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).eval(), {})


def test_a_model_is_tried_once_and_left_as_it_was() -> None:
    model = tiny.qwen2().train()
    model.lm_head.eval()
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    check_model(model, {})
    assert passes and model.training and model.model.training and not model.lm_head.training
    passes.clear()
    check_model(model, {})
    assert not passes


class _OldNameOnly(LlamaForCausalLM):
    """A model with code of its own, whose cache has the name that transformers gives up."""

    def forward(self, input_ids: Any = None, past_key_values: Any = None, **arguments: Any) -> Any:
        name = cache_name(tiny.llama())
        assert name is not None
        return super().forward(input_ids, **{**arguments, name: past_key_values})


def test_a_cache_is_handed_over_under_the_name_that_the_model_uses(index: IdentifierIndex) -> None:
    torch.manual_seed(1)
    own, inputs = _OldNameOnly(tiny.llama().config).eval(), tiny.text_prompts([3, 5])
    assert cache_name(own) == "past_key_values"
    own.load_state_dict(tiny.llama().state_dict())
    found, expected = (constrained_beam_search(model, inputs, index) for model in (own, tiny.llama()))
    assert torch.equal(found.scores, expected.scores)


def test_a_sliding_window_limits_the_prompt(index: IdentifierIndex) -> None:
    model = MistralForCausalLM(MistralConfig(**tiny.TEXT, sliding_window=16)).eval()
    assert "the model's 16 positions" in sentence_of(model, tiny.text_prompts([14]), index)
    assert constrained_beam_search(model, tiny.text_prompts([13]), index).sequences


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

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from semcore.runtime.errors import UserError
from semcore.verification.rope_shift import check_rope_shift, shift_keys

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64,
    "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}


def model_of(kind, dtype=torch.float32, **settings):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **settings)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.to(dtype)


def test_a_shifted_key_is_the_key_of_another_position():
    """Against the textbook: each pair of values is a complex number, rotated by its frequency times the distance."""
    keys, frequencies = torch.randn(2, 3, 8), torch.tensor([1.0, 0.5, 0.1, 0.01])
    shifted = shift_keys(keys, torch.tensor([0, 7, -3]), frequencies)
    for token, distance in enumerate((0, 7, -3)):
        for pair, frequency in enumerate(frequencies.tolist()):
            before = torch.complex(keys[:, token, pair], keys[:, token, pair + 4])
            after = before * torch.exp(torch.tensor(1j * distance * frequency))
            torch.testing.assert_close(shifted[:, token, pair], after.real)
            torch.testing.assert_close(shifted[:, token, pair + 4], after.imag)


@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3", "mistral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotary_keys_can_be_shifted(kind, dtype):
    check_rope_shift(model_of(kind, dtype))


def test_scaled_frequencies_can_be_shifted():
    check_rope_shift(model_of("llama", rope_parameters=YARN))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("cohere", {}), ("stablelm", {}), ("gpt2", {}), ("llama", {"rope_parameters": LONGROPE})],
    ids=["interleaved", "partial", "learned positions", "longrope"],
)
def test_other_positions_are_refused(kind, settings):
    with pytest.raises(UserError) as error:
        check_rope_shift(model_of(kind, **settings))
    assert str(error.value) == (
        f"candidate blocks turn keys to other positions, which the position embedding of this text model ({kind}) "
        "does not allow; use --attention full, or a checkpoint with a text model such as Qwen2 or Llama"
    )

import pytest
import torch

from semcore.checkpoint import apply_lora
from semcore.errors import UserError
from semcore.inference import load_for_inference, native_dtype


def test_bfloat16_only_where_the_processor_multiplies_it(monkeypatch):
    monkeypatch.setattr("semcore.inference._cpu_flags", lambda: {"avx512_bf16", "avx2"})
    assert native_dtype("cpu") == "bfloat16"
    monkeypatch.setattr("semcore.inference._cpu_flags", lambda: {"avx2"})
    assert native_dtype("cpu") == "float32"


def test_the_wish_counts(tiny_checkpoint_folder):
    checkpoint = load_for_inference(tiny_checkpoint_folder, dtype="bfloat16", device="cpu")
    assert checkpoint.model.dtype == torch.bfloat16
    assert not checkpoint.model.training


def test_no_such_device(tiny_checkpoint_folder):
    with pytest.raises(UserError, match="there is no device 'abacus' here"):
        load_for_inference(tiny_checkpoint_folder, device="abacus")


def test_an_adapter_is_merged_and_says_the_same(tiny_checkpoint, tiny_checkpoint_folder, tmp_path):
    peft = apply_lora(
        tiny_checkpoint.model, rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "up_proj"], new_token_ids=[3]
    )
    torch.manual_seed(0)
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    peft.peft_config["default"].base_model_name_or_path = str(tiny_checkpoint_folder)
    peft.save_pretrained(tmp_path)
    tiny_checkpoint.tokenizer.save_pretrained(tmp_path)
    tiny_checkpoint.image_processor.save_pretrained(tmp_path)
    tokens = torch.tensor([[5, 6, 7, 8]])
    merged = load_for_inference(tmp_path, dtype="float32", device="cpu")
    assert type(merged.model) is type(tiny_checkpoint.model)
    with torch.inference_mode():
        torch.testing.assert_close(merged.model(tokens).logits, peft.eval()(tokens).logits, rtol=1e-4, atol=1e-4)

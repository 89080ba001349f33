import pytest
import torch

from semcore.decoding import IdentifierIndex, constrained_beam_search
from semcore.models.inference import load_for_inference
from semcore.models.lora import apply_lora
from semcore.runtime.errors import UserError


def test_the_wish_counts(tiny_checkpoint_folder):
    checkpoint = load_for_inference(tiny_checkpoint_folder, dtype="bfloat16", device="cpu")
    assert checkpoint.model.dtype == torch.bfloat16
    assert not checkpoint.model.training


@torch.inference_mode()
def test_logits_are_not_rounded_to_bfloat16(tiny_checkpoint_folder):
    """Neither by the plain forward nor in a search, whose scores add up the same numbers."""
    model = load_for_inference(tiny_checkpoint_folder, dtype="bfloat16", device="cpu").model
    tokens = torch.tensor([[5, 6, 7, 8]])
    states = model.get_decoder()(tokens).last_hidden_state
    logits = model(tokens).logits
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, states @ model.get_input_embeddings().weight.float().T)
    assert not torch.equal(logits, logits.bfloat16().float())
    index = IdentifierIndex.from_sequences([[9, 2], [10, 2]], ["a", "b"])
    result = constrained_beam_search(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, index)
    best = result.sequences[0][0]
    whole = model(torch.cat([tokens, torch.tensor([best])], dim=1)).logits[0, 3:5].log_softmax(dim=-1)
    assert result.scores[0, 0].item() == pytest.approx(whole[range(2), best].sum().item(), abs=2e-2)


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

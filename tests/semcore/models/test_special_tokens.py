"""An answer ends with the token that closes a turn in the chat template; padding needs no special token."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from semcore.models.batching import last_hidden, make_prompts, model_inputs
from semcore.models.captioning.local import captions_of_features
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.prompts import load_prompts
from semcore.models.special_tokens import closing_token_id, filler_token_id
from semcore.models.tokenization import answer_tokens, chat_prompt
from semcore.runtime.errors import UserError
from semcore.training.packing import collate
from semcore.verification.answer_scoring import ScoringRequest, answer_log_probabilities
from tests.run_fixtures import save
from tests.semcore.training.test_packing import Example, merge


@pytest.fixture
def base_model(tiny_checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a base model's tokenizer: its end token is not the mark that closes a turn."""
    tiny_checkpoint.tokenizer.eos_token = "<|endoftext|>"
    return tiny_checkpoint


@pytest.fixture
def unpadded(lively_checkpoint: Checkpoint) -> Checkpoint:
    checkpoint = copy.deepcopy(lively_checkpoint)
    checkpoint.tokenizer.pad_token = None
    return checkpoint


def with_template(tokenizer: Any, template: str) -> Any:
    tokenizer.chat_template = template
    return tokenizer


def test_the_mark_that_closes_a_turn_ends_an_answer(base_model: Checkpoint) -> None:
    tokenizer = base_model.tokenizer
    end, text_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert tokenizer.eos_token_id == text_end != end
    assert closing_token_id(tokenizer) == base_model.end_token_id == end
    assert base_model.end_token_ids == [end, text_end]
    assert answer_tokens(tokenizer, chat_prompt(tokenizer, "a star"), "red star")[-1] == end


@pytest.mark.parametrize(
    ("after", "token"),
    [
        ("<|im_end|>\n", "<|im_end|>"), ("\n <|im_end|><|endoftext|>", "<|im_end|>"), ("", "<|endoftext|>"),
        (" and so on it goes\n", "<|endoftext|>"), ("{{ eos_token }}", "<|endoftext|>"), ("</img>", "</img>"),
    ],
)  # fmt: skip
def test_it_is_found_by_rendering_the_template(base_model: Checkpoint, after: str, token: str) -> None:
    template = "{% for message in messages %}{{ message['content'] }}" + after + "{% endfor %}"
    tokenizer = with_template(base_model.tokenizer, template)
    assert tokenizer.convert_ids_to_tokens(closing_token_id(tokenizer)) == token


def test_a_template_that_takes_no_answers_leaves_the_tokenizers_own_end(base_model: Checkpoint) -> None:
    refuses = "{% if message['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}"
    tokenizer = with_template(base_model.tokenizer, f"{{% for message in messages %}}{refuses}x{{% endfor %}}")
    assert closing_token_id(tokenizer) == tokenizer.eos_token_id


def test_captions_of_a_base_models_tokenizer_are_the_same(
    base_model: Checkpoint, pristine_checkpoint: Checkpoint
) -> None:
    features = [torch.randn(4, 32, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    prompts = load_prompts()
    for checkpoint in (base_model, pristine_checkpoint):  # both write the mark at once, whatever they see
        head = checkpoint.model.get_output_embeddings()
        checkpoint.model.lm_head = biased = torch.nn.Linear(head.in_features, head.out_features)
        biased.weight.data, biased.bias.data = head.weight.data.clone(), torch.zeros(head.out_features)
        biased.bias.data[checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")] = 1e4
        assert captions_of_features(checkpoint, prompts, features, max_new_tokens=6) == [("", True)] * 4
        checkpoint.model.lm_head = head


def test_a_checkpoint_that_names_no_end_at_all_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    tiny_checkpoint.tokenizer.eos_token = None
    tiny_checkpoint.tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    save(tiny_checkpoint, tmp_path / "model")
    with pytest.raises(UserError, match="where an answer ends .*eos_token"):
        load_checkpoint(tmp_path / "model")


def test_without_a_pad_token_any_token_pads(unpadded: Checkpoint) -> None:
    assert unpadded.tokenizer.pad_token_id is None
    assert filler_token_id(unpadded.tokenizer) == unpadded.filler_token_id == unpadded.end_token_id


def test_a_missing_pad_token_changes_no_state_no_score_and_no_label(
    unpadded: Checkpoint, lively_checkpoint: Checkpoint
) -> None:
    turns = ["a star", "a small red star beside a large blue circle"]
    answers = [[7, 8, unpadded.end_token_id], [9, unpadded.end_token_id]]
    states, scores = [], []
    for checkpoint in (unpadded, lively_checkpoint):
        prompts = make_prompts(checkpoint, turns)
        inputs = model_inputs(checkpoint, prompts)
        with torch.no_grad():
            states.append(last_hidden(checkpoint.model, **inputs)[:, -1])
        scores.append(answer_log_probabilities(checkpoint, [ScoringRequest(prompt, answers) for prompt in prompts]))
    torch.testing.assert_close(states[0], states[1])
    torch.testing.assert_close(torch.tensor(scores[0]), torch.tensor(scores[1]))
    rows = [merge([Example([1, 2, 3], [7, 8])], 99), merge([Example([1] * 9, [7])], 99)]
    one, other = (collate(rows, pad_token_id=filler) for filler in (0, unpadded.filler_token_id))
    tensors = [name for name in one if isinstance(one[name], torch.Tensor) and name != "input_ids"]
    assert {"labels", "attention_mask"} & set(tensors)
    assert all(torch.equal(one[name], other[name]) for name in tensors)


def test_captions_need_no_pad_token(unpadded: Checkpoint, lively_checkpoint: Checkpoint) -> None:
    features = [torch.randn(4, 32, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    written = [
        captions_of_features(c, load_prompts(), features, max_new_tokens=6) for c in (unpadded, lively_checkpoint)
    ]
    assert written[0] == written[1]

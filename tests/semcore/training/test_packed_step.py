"""A packed step has the gradients of the padded step of the same examples, for every text model."""

import pytest
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from semcore.training.chunked_loss import chunked_loss
from semcore.training.collator import Collator
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import StoredFeatures
from semcore.training.packing import merge, pack

PAD, IMAGE_START, IMAGE, END, VOCABULARY = 0, 1, 2, 3, 97
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": END,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(params=["qwen2", "llama"])
def model(request):
    torch.manual_seed(0)
    text = {**TEXT, "model_type": request.param}
    model = InternVLForConditionalGeneration(
        InternVLConfig(vision_config=VISION, text_config=text, image_token_id=IMAGE, tie_word_embeddings=False)
    )
    for name, parameter in model.named_parameters():  # biases begin at 0, and norms at 1
        parameter.data += 0.1 * torch.randn_like(parameter) * (parameter.ndim == 1)
        parameter.requires_grad_("vision" not in name and "multi_modal" not in name)
    return model.train()


def make_examples():
    """Sentences that share a template, and identifiers of two images: answers of one to five tokens."""
    generator = torch.Generator().manual_seed(1)

    def words(count):
        return torch.randint(10, VOCABULARY, (count,), generator=generator).tolist()

    template, ending = words(6), words(3)
    examples = [Example([*template, *words(2 + n % 4), *ending], [*words(n % 5), END]) for n in range(12)]
    for name in ("a", "b"):
        prompt = [*template[:3], IMAGE_START, *[IMAGE] * 4, *ending]
        examples += [Example(prompt, [*words(1 + n), END], (name,)) for n in range(3)]
    return examples, {name: torch.randn(4, 32, generator=generator) for name in ("a", "b")}


def padded_batch(examples, features):
    """One example a row, padded on the right, labels where they stand: what `Trainer` is usually given."""
    length = max(len(example.prompt) + len(example.answer) for example in examples)
    ids, mask = torch.full((len(examples), length), PAD), torch.zeros(len(examples), length, dtype=torch.long)
    labels = torch.full((len(examples), length), -100)
    for row, example in enumerate(examples):
        tokens = torch.tensor([*example.prompt, *example.answer])
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, len(example.prompt) : len(tokens)] = tokens[len(example.prompt) :]
    images = StoredFeatures(features).model_inputs([image for example in examples for image in example.images])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "use_cache": False, **images}


def packed_batch(examples, features):
    rows = [merge(group, IMAGE_START) for group in pack(examples, 64, IMAGE_START)]
    assert 1 < len(rows) < len(examples) / 2
    return Collator(StoredFeatures(features), PAD, IMAGE)(rows)


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    trained = ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in trained}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("positions_per_chunk", [None, 7])
def test_loss_and_gradients_are_those_of_the_padded_step(model, attention, positions_per_chunk):
    model.set_attn_implementation(attention)
    examples, features = make_examples()
    loss, gradients = loss_and_gradients(model, padded_batch(examples, features))
    packed = packed_batch(examples, features)
    if positions_per_chunk is None:
        found, own = loss_and_gradients(model, packed)
    else:
        with chunked_loss(model, positions_per_chunk * VOCABULARY):
            found, own = loss_and_gradients(model, packed)
    torch.testing.assert_close(found, loss, atol=1e-5, rtol=1e-5)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(own[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


def test_the_head_looks_at_positions_with_a_label_only(model):
    examples, features = make_examples()
    seen: list[int] = []
    head = model.get_output_embeddings()
    forward = head.forward

    def recorded(states):
        seen.append(len(states))
        return forward(states)

    head.forward = recorded
    with chunked_loss(model, 7 * VOCABULARY):
        model(**packed_batch(examples, features)).loss.backward()
    num_labels = sum(len(example.answer) for example in examples)
    assert max(seen) == 7
    assert sum(seen) == 2 * num_labels  # once forward, once backward
    assert model(**packed_batch(examples, features)).logits.shape[-1] == VOCABULARY


def test_a_given_number_of_labels_divides_the_loss(model):
    """`Trainer` gives the labels of all batches of a step."""
    examples, features = make_examples()
    batch = packed_batch(examples, features)
    whole = model(**batch, num_items_in_batch=torch.tensor(50)).loss
    with chunked_loss(model, 7 * VOCABULARY):
        torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(50)).loss, whole)

"""Small models of both text models with the scenes' tokenizer, and candidates of different lengths for them."""

from dataclasses import replace

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from semcore.verification import Choice, Question

WIDTH = 32
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
NAMES = ("red", "blue star", "green", "a purple circle beside a large square")
IMAGES = tuple(Choice(f"i{n}", name) for n, name in enumerate(NAMES))
SENTENCES = tuple(Choice(f"s{n}", "circle", f"there is {name} here") for n, name in enumerate(NAMES))
FEATURES = {f"i{n}": torch.randn(2 + n, WIDTH, generator=torch.Generator().manual_seed(n)) for n in range(len(NAMES))}
QUESTIONS = {
    "t2i": [
        Question("a blue star", IMAGES),
        Question("red", IMAGES[:0:-1]),
        Question("a green square above a red one", IMAGES[1:3]),
    ],
    "i2t": [Question("i3", SENTENCES), Question("i0", SENTENCES[2:0:-1]), Question("i1", SENTENCES[::-1])],
}


def checkpoint_with(kind, checkpoint, **text):
    """Return the checkpoint with a random model of this kind of text model in place of its own."""
    torch.manual_seed(0)
    tokenizer = checkpoint.tokenizer
    settings = {**TEXT, **text, "model_type": kind, "vocab_size": len(tokenizer), "eos_token_id": 1}
    image_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    config = InternVLConfig(
        vision_config=VISION, text_config=settings, image_token_id=image_token_id, tie_word_embeddings=False
    )
    model = InternVLForConditionalGeneration(config)
    for parameter in model.parameters():  # what it says is to depend on all that it sees
        parameter.data += 0.1 * torch.randn_like(parameter)
    return replace(checkpoint, model=model.eval())

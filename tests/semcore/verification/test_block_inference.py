"""Cached and shifted states against a slow reference: one forward pass with every token and an explicit mask."""

from hashlib import sha256

import pytest
import torch

from semcore.data.directions import Direction
from semcore.models.batching import make_prompts
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory
from semcore.models.tokenization import tokenize
from semcore.runtime.errors import UserError
from semcore.verification import LETTERS, Question, VerifierSession, choose, option_tokens, question_turn
from semcore.verification.block_inference import BlockReader
from tests.semcore.verification.block_models import FEATURES, IMAGES, QUESTIONS, checkpoint_with

HEAD = "<|im_start|>user\n"
ASKED = {
    "t2i": "Sentence: {query}\nPlease select the image that best matches the last sentence based on the image with "
    "its keywords.",
    "i2t": "Image: {query}\nPlease select the sentence that best matches the last image based on the sentence with its "
    "keywords.",
}
END = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(params=["qwen2", "llama"])
def checkpoint(request, pristine_checkpoint):
    return checkpoint_with(request.param, pristine_checkpoint)


def image_text(image_id):
    return "<img>" + "<IMG_CONTEXT>" * len(FEATURES[image_id]) + "</img>"


def written_out(tokenizer, direction, question):
    """Return every token of a question as (id, position, piece, slot), the head once more before every block."""
    head = tokenize(tokenizer, HEAD)
    rows = [(token, position, "head", 0) for position, token in enumerate(head)]
    start = len(head)
    for slot, (letter, choice) in enumerate(zip(LETTERS, question.choices, strict=False), start=1):
        shown = f"Image: {image_text(choice.item_id)}" if direction == "t2i" else f"Sentence: {choice.sentence}"
        *block, closing = tokenize(tokenizer, f". {shown}; {choice.keywords}.\n")
        rows += [(token, start - len(head) + place, "copy", slot) for place, token in enumerate(head)]
        rows += [(*tokenize(tokenizer, letter), start, "letter", slot)]
        rows += [(token, start + 1 + place, "block", slot) for place, token in enumerate(block)]
        rows += [(closing, start + 1 + len(block), "closing", slot)]
        start += len(block) + 2
    query = question.query if direction == "t2i" else image_text(question.query)
    tail = tokenize(tokenizer, ASKED[direction].format(query=query) + END)
    return rows + [(token, start + place, "tail", 0) for place, token in enumerate(tail)]


def sees(one, other):
    """Tell whether a piece in a slot sees another one that stands before it."""
    (piece, slot), (seen, seen_slot) = one, other
    allowed = {
        "head": ["head"],
        "copy": ["copy"],
        "letter": ["head", "letter"],
        "block": ["copy", "block"],
        "closing": ["head", "letter", "block", "closing"],
        "tail": ["head", "letter", "block", "closing", "tail"],
    }[piece]
    return seen in allowed and (piece == "tail" or seen == "head" or slot == seen_slot)


@torch.inference_mode()
def slow_scores(checkpoint, direction, question):
    """One forward pass over everything, with an explicit mask and explicit positions."""
    ids, positions, *places = zip(*written_out(checkpoint.tokenizer, direction, question), strict=True)
    places = list(zip(*places, strict=True))
    hidden = torch.finfo(torch.float32).min
    mask = torch.tensor(
        [[0.0 if i >= k and sees(own, places[k]) else hidden for k in range(len(ids))] for i, own in enumerate(places)]
    )
    embeds = checkpoint.model.get_input_embeddings()(torch.tensor([ids]))
    shown = [choice.item_id for choice in question.choices] if direction == "t2i" else [question.query]
    embeds[torch.tensor([ids]) == checkpoint.model.config.image_token_id] = torch.cat([FEATURES[i] for i in shown])
    logits = checkpoint.model(
        inputs_embeds=embeds, attention_mask=mask[None, None], position_ids=torch.tensor([positions])
    ).logits[0, -1]
    letters = [tokenize(checkpoint.tokenizer, letter)[0] for letter in LETTERS[: len(question.choices)]]
    return logits[letters].log_softmax(dim=0).tolist()


def fast_scores(checkpoint, direction, questions, reader, **options):
    session = VerifierSession(checkpoint, load_prompts(), FeaturesInMemory(FEATURES), reader)
    return choose(session, direction, questions, **options)


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("limits", [{}, {"tokens_per_batch": 1}, {"most_bytes": 0}])
def test_kept_blocks_give_the_scores_of_one_whole_pass(checkpoint, direction, limits):
    reader = BlockReader(checkpoint, load_prompts(), **limits)
    for _ in range(2):  # the second time from what was kept
        found = fast_scores(checkpoint, direction, QUESTIONS[direction], reader)
        for question, own in zip(QUESTIONS[direction], found, strict=True):
            assert own == pytest.approx(slow_scores(checkpoint, direction, question), abs=1e-4)


@pytest.mark.parametrize("direction", list(Direction))
def test_what_pads_a_shorter_question_counts_for_nothing(checkpoint, direction, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda own, *shape: own.new_full(shape, torch.nan))
    found = fast_scores(checkpoint, direction, QUESTIONS[direction], BlockReader(checkpoint, load_prompts()))
    for question, own in zip(QUESTIONS[direction], found, strict=True):
        assert own == pytest.approx(slow_scores(checkpoint, direction, question), abs=1e-4)


@pytest.mark.parametrize("direction", list(Direction))
def test_the_written_out_question_is_the_prompt(checkpoint, direction):
    """Without the copies of the head, the pieces are the tokens of the whole prompt, at the same positions."""
    for question in QUESTIONS[direction]:
        rows = [row for row in written_out(checkpoint.tokenizer, direction, question) if row[2] != "copy"]
        images = [FEATURES[c.item_id] for c in question.choices] if direction == "t2i" else [FEATURES[question.query]]
        [prompt] = make_prompts(checkpoint, [question_turn(load_prompts(), direction, question)], [images])
        assert [(token, position) for token, position, *_ in rows] == [
            (token, position) for position, token in enumerate(prompt.tokens)
        ]


@pytest.mark.parametrize("num_shifts", [2, 4])
def test_shifts_are_the_mean_of_whole_passes(checkpoint, num_shifts):
    question = QUESTIONS["t2i"][0]
    reader = BlockReader(checkpoint, load_prompts())
    [found] = fast_scores(checkpoint, Direction.T2I, [question], reader, num_shifts=num_shifts)
    total, circle = torch.zeros(4), list(range(4))
    if num_shifts == 4:
        circle.sort(key=lambda place: sha256(question.choices[place].item_id.encode()).hexdigest())
    for start in range(0, 4, 4 // num_shifts):
        places = circle[start:] + circle[:start]
        asked = Question(question.query, tuple(question.choices[place] for place in places))
        total[places] += torch.tensor(slow_scores(checkpoint, Direction.T2I, asked)) / num_shifts
    assert found == pytest.approx(total.log_softmax(dim=0).tolist(), abs=1e-4)
    assert reader.states.num_read == 4, "each candidate is read once, whatever the slot"


def test_attention_in_blocks_is_not_full_attention(checkpoint):
    full = fast_scores(checkpoint, Direction.T2I, QUESTIONS["t2i"], None)
    blocks = fast_scores(checkpoint, Direction.T2I, QUESTIONS["t2i"], BlockReader(checkpoint, load_prompts()))
    assert abs(full[0][0] - blocks[0][0]) > 1e-3


def test_a_candidate_is_read_once_and_the_oldest_go_first(checkpoint):
    reader = BlockReader(checkpoint, load_prompts())
    fast_scores(checkpoint, Direction.T2I, QUESTIONS["t2i"] * 3, reader)
    assert reader.states.num_read == len(IMAGES)
    room = reader.states.nbytes - 1
    small = BlockReader(checkpoint, load_prompts(), most_bytes=room)
    fast_scores(checkpoint, Direction.T2I, QUESTIONS["t2i"], small)
    assert 0 < small.states.nbytes <= room
    one_less = small.states.num_read
    fast_scores(checkpoint, Direction.T2I, [QUESTIONS["t2i"][2]], small)
    assert small.states.num_read <= one_less + 1


def test_a_dynamic_embedding_is_shifted_up_to_the_length_of_its_frequencies(pristine_checkpoint):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    long, short = (
        checkpoint_with("llama", pristine_checkpoint, rope_parameters=rope, max_position_embeddings=most)
        for most in (512, 64)
    )
    found = fast_scores(long, Direction.T2I, QUESTIONS["t2i"], BlockReader(long, load_prompts()))
    for question, own in zip(QUESTIONS["t2i"], found, strict=True):
        assert own == pytest.approx(slow_scores(long, Direction.T2I, question), abs=1e-4)
    with pytest.raises(UserError, match=r"a question takes \d+ tokens, .* the same up to 64; give fewer"):
        fast_scores(short, Direction.T2I, QUESTIONS["t2i"], BlockReader(short, load_prompts()))


def test_bfloat16_differs_by_rounding_only(checkpoint):
    exact = fast_scores(checkpoint, Direction.T2I, QUESTIONS["t2i"], BlockReader(checkpoint, load_prompts()))
    checkpoint.model.to(torch.bfloat16)
    rounded = fast_scores(checkpoint, Direction.T2I, QUESTIONS["t2i"], BlockReader(checkpoint, load_prompts()))
    for one, other in zip(exact, rounded, strict=True):
        assert one == pytest.approx(other, abs=0.03)


def test_no_question_asks_nothing(checkpoint):
    reader = BlockReader(checkpoint, load_prompts())
    assert reader.read_options(Direction.T2I, [], {}, option_tokens(checkpoint.tokenizer)).shape == (0, 10)

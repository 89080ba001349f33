import shutil

import pytest

from semcore.data.directions import Direction
from semcore.models.prompts import IMAGE, load_prompts
from semcore.runtime.errors import UserError
from semcore.verification import Choice, Question
from semcore.verification.block_layout import block_tokens, check_templates, cut_question
from tests.model_fixtures import PROMPTS

CHOICES = (Choice("a", "red"), Choice("b", "red"), Choice("c", "<label> <image> blue"))
LINE = "{{ candidate.label }}. Image: {{ candidate.image }}; {{ candidate.keywords }}."
LOOP = "{% for candidate in candidates -%}\n{line}\n{% endfor -%}\n"
TEMPLATES = {
    "the label is not the first": "Candidate " + LINE,
    "the label stands there twice": LINE + " This was {{ candidate.label }}.",
    "the place shows": LINE + " Number {{ loop.index }}.",
    "the last one differs": LINE + "{% if not loop.last %};{% endif %}",
}


@pytest.fixture
def tokenizer(pristine_checkpoint):
    return pristine_checkpoint.tokenizer


@pytest.fixture
def prompts_with(tmp_path):
    """Return the prompts with another verify_t2i."""

    def make(source):
        shutil.copytree(PROMPTS, tmp_path, dirs_exist_ok=True)
        (tmp_path / "verify_t2i.jinja").write_text(source)
        return load_prompts(tmp_path)

    return make


def test_a_question_is_cut_at_its_letters(tokenizer):
    head, blocks, tail = cut_question(tokenizer, load_prompts(), Direction.T2I, Question("what <label>", CHOICES))
    assert head == "<|im_start|>user\n"
    assert blocks == (f". Image: {IMAGE}; red.\n",) * 2 + (f". Image: {IMAGE}; < label> < image> blue.\n",)
    assert tail.startswith("Sentence: what < label>\nPlease select")
    assert tail.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_the_last_token_of_a_candidate_belongs_to_its_slot(tokenizer):
    block, closing = block_tokens(tokenizer, f". Image: {IMAGE}; red.\n", [3])
    assert tokenizer.decode([closing]) == ".\n"
    assert tokenizer.decode(block) == ". Image: <img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>; red"


def test_the_prompts_that_come_along_can_be_cut(tokenizer):
    check_templates(tokenizer, load_prompts())


@pytest.mark.parametrize("line", TEMPLATES.values(), ids=TEMPLATES)
def test_candidates_that_are_not_written_alike_are_refused(tokenizer, prompts_with, line):
    prompts = prompts_with(LOOP.replace("{line}", line) + "Sentence: {{ query }}")
    with pytest.raises(UserError, match="the prompt verify_t2i.jinja cannot be asked in candidate blocks"):
        check_templates(tokenizer, prompts)


def test_a_query_before_the_candidates_is_refused(tokenizer, prompts_with):
    prompts = prompts_with("Sentence: {{ query }}\n" + LOOP.replace("{line}", LINE))
    with pytest.raises(UserError) as error:
        check_templates(tokenizer, prompts)
    assert str(error.value) == (
        "the prompt verify_t2i.jinja cannot be asked in candidate blocks: every candidate has to begin with its label "
        "and be written alike in every place, and what is asked has to come after them; change it so, or use "
        "--attention full"
    )


def test_the_number_of_candidates_may_stand_behind_them_only_where_it_is_not_counted(tokenizer, prompts_with):
    prompts = prompts_with("{{ candidates | length }} images:\n" + LOOP.replace("{line}", LINE) + "Which: {{ query }}")
    with pytest.raises(UserError, match="written alike in every place"):
        check_templates(tokenizer, prompts)

import shutil
from pathlib import Path

import pytest

from semcore.models.prompts import IMAGE, VARIABLES, escape_special_tokens, load_prompts
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import resource_folder

SPECIAL = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<|cluster_1|>", "<|cluster_10|>"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(resource_folder("prompts"), tmp_path / "prompts")
    return tmp_path / "prompts"


def test_the_verification_prompt_is_the_papers_with_labels():
    candidates = [
        {"label": "A", "image": IMAGE, "keywords": "dog park"},
        {"label": "B", "image": IMAGE, "keywords": "cat"},
    ]
    turn = load_prompts().render("verify_t2i", candidates=candidates, query="a dog runs")
    assert turn == (
        "A. Image: <image>; dog park.\n"
        "B. Image: <image>; cat.\n"
        "Sentence: a dog runs\n"
        "Please select the image that best matches the last sentence based on the image with its keywords."
    )


def test_the_pointwise_prompt_asks_for_a_letter():
    candidate = {"sentence": "a dog runs", "keywords": "dog park"}
    turn = load_prompts().render("verify_pointwise_i2t", candidate=candidate, image=IMAGE, match="A", mismatch="B")
    assert turn == (
        "Sentence: a dog runs; dog park.\n"
        "Image: <image>\n"
        "Does the sentence with its keywords match the image?\n"
        "A. match\n"
        "B. mismatch"
    )


def test_a_changed_file_changes_the_prompt_and_its_hash(folder):
    before = load_prompts(folder)
    (folder / "caption.jinja").write_text("{{ image }}\nSay what you see.\n")
    after = load_prompts(folder)
    assert after.render("caption", image=IMAGE) == "<image>\nSay what you see."
    assert {name for name in VARIABLES if before.sha256[f"{name}.jinja"] != after.sha256[f"{name}.jinja"]} == {
        "caption"
    }


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "x<<|im_end|>|im_end|>", "<image>", "<|cluster_10|>", "<|im_\nend|><img>"]
)
def test_text_from_outside_never_holds_a_special_token(text):
    turn = load_prompts(special_tokens=SPECIAL).render("identify_t2i", query=text)
    assert not any(token in turn for token in [*SPECIAL, "<image>"])


def test_harmless_text_stays_as_it_is():
    assert escape_special_tokens(SPECIAL)("a < b, 2 > 1 |im_end|") == "a < b, 2 > 1 |im_end|"


def test_a_missing_variable_is_named(folder):
    (folder / "identify_t2i.jinja").write_text("Write the identifier.")
    with pytest.raises(UserError) as error:
        load_prompts(folder)
    assert str(error.value) == (
        f"{folder}/identify_t2i.jinja: the prompt never uses {{{{ query }}}}; its variables are: query"
    )


def test_candidates_left_out_are_noticed(folder):
    for template in ("{{ image }} Which sentence?", "{{ image }} {{ candidates[0].label }}. Is it this one?"):
        (folder / "verify_i2t.jinja").write_text(template)
        with pytest.raises(UserError) as error:
            load_prompts(folder)
        assert str(error.value) == (
            f"{folder}/verify_i2t.jinja: the prompt does not show {{{{ candidate.label }}}} of every candidate; "
            "write it between {% for candidate in candidates %} and {% endfor %}; its variables are: candidate.label, "
            "candidate.sentence, candidate.keywords, image"
        )


def test_a_pointwise_prompt_without_its_candidate_or_answers_is_noticed(folder):
    known = "its variables are: candidate.image, candidate.keywords, query, match, mismatch"
    for template, missing in (
        ("{{ query }} {{ match }} {{ mismatch }}", "candidate.image"),
        ("{{ candidate.image }} {{ candidate.keywords }} {{ query }} A. yes B. no", "match"),
    ):
        (folder / "verify_pointwise_t2i.jinja").write_text(template)
        with pytest.raises(UserError) as error:
            load_prompts(folder)
        assert str(error.value) == (
            f"{folder}/verify_pointwise_t2i.jinja: the prompt never uses {{{{ {missing} }}}}; {known}"
        )


def test_a_misspelt_variable_is_named(folder):
    (folder / "identify_t2i.jinja").write_text("{{ qurey }} {{ query }}")
    with pytest.raises(UserError, match=r"identify_t2i.jinja: 'qurey' is undefined; its variables are: query"):
        load_prompts(folder)


def test_a_template_mistake_has_its_line(folder):
    (folder / "caption.jinja").write_text("{{ image }}\n{% for %}")
    with pytest.raises(UserError, match="caption.jinja, line 2: "):
        load_prompts(folder)


def test_a_file_that_an_older_folder_lacks_is_the_packages(folder):
    (folder / "caption.jinja").write_text("{{ image }}\nSay what you see.\n")
    (folder / "identify_own.jinja").unlink()
    found, whole = load_prompts(folder), load_prompts()
    assert found.render("caption", image=IMAGE) == "<image>\nSay what you see."
    assert found.render("identify_own", image=IMAGE) == whole.render("identify_own", image=IMAGE)
    assert found.sha256.keys() == {f"{name}.jinja" for name in VARIABLES}
    assert {name for name in VARIABLES if found.sha256[f"{name}.jinja"] != whole.sha256[f"{name}.jinja"]} == {"caption"}


def test_a_misspelt_file_is_refused_with_the_nearest_name(folder):
    (folder / "verify_t2i.jinja").rename(folder / "verfy_t2i.jinja")
    with pytest.raises(UserError) as error:
        load_prompts(folder)
    assert str(error.value) == (
        f"{folder}/verfy_t2i.jinja: no model reads a prompt of this name; the nearest is verify_t2i.jinja: rename the "
        f"file, or move it out of {folder}"
    )


def test_what_is_no_template_may_lie_beside_the_prompts(folder):
    (folder / "notes.txt").write_text("mine")
    assert load_prompts(folder).sha256 == load_prompts().sha256


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError) as error:
        load_prompts(tmp_path / "mine")
    assert str(error.value) == (
        f"{tmp_path}/mine: there is no such folder of prompts; `semcore init DIR` writes a fresh set"
    )


def test_templates_cannot_reach_python(folder):
    (folder / "caption.jinja").write_text("{{ image }}{{ image.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(UserError, match="caption.jinja, line 1: a prompt takes no call: it shows variables, chooses"):
        load_prompts(folder)
    (folder / "caption.jinja").write_text("{{ image }}{{ image.__class__.__mro__ }}")
    with pytest.raises(UserError, match="access to attribute '__class__' of 'str' object is unsafe"):
        load_prompts(folder)


def test_templates_that_cannot_be_filled_in_end_in_a_sentence(folder):
    for source, reason in (
        ("{{ image[0] }}{{ image }}{{ image[10 - 2000] }}", "has no element"),
        ("{{ image }}{{ image + 1 }}", r"cannot be filled in \(can only concatenate str"),
        ("{{ image }}{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "nested too deeply"),
    ):
        (folder / "caption.jinja").write_text(source)
        with pytest.raises(UserError, match=reason):
            load_prompts(folder)
    (folder / "caption.jinja").write_text("{{ image }}")
    (folder / "verify_i2t.jinja").write_text(
        "{% for candidate in candidates %}{{ candidate.label }}{{ candidate.sentence }}{{ candidate.keywords }}"
        "{% endfor %}{{ image }}{{ candidates[1].label }}"
    )
    with pytest.raises(UserError, match=r"verify_i2t\.jinja: the template cannot be filled in \(.*no element 1"):
        load_prompts(folder).render("verify_i2t", candidates=[], image=IMAGE)


def test_special_tokens_with_blanks_are_escaped_in_the_end():
    harmless = escape_special_tokens(["  ", "    ", "  b", "a b", "aa", " <|x|> "])
    assert harmless("a b  b aaaa <|x|>") == "a  b b a a a a < |x|>"

"""The recipe of the base checkpoint of the scenes, as far as it goes without training."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from data_prep.scenes.pretraining.courses import COURSES, Term
from recipes import pretrain_scenes
from recipes.pretrain_scenes import Settings, main
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import resource_folder
from tests.data_prep.scenes.pretraining.test_card import RESULTS


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match="no device 'cuda'"):
        main(Settings(out=tmp_path / "base", work=tmp_path / "work", device="cuda"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"start": "base"}, "--start and --first-course go together"),
        ({"first_course": 2}, "--start and --first-course go together"),
        ({"start": "base", "first_course": 99}, "--first-course 99 is beyond the last of"),
    ],
)
def test_a_start_says_what_courses_it_has_had(tmp_path, given, sentence):
    with pytest.raises(UserError, match=sentence):
        Settings(out=tmp_path / "base", **given)


def test_the_last_course_from_the_shipped_checkpoint(tmp_path, monkeypatch):
    """Three small steps from the shipped weights, while the rate still grows: a card that says where it began."""
    terms = (Term(3, {"choose_image:2": (1.0, 1)}),)
    short = replace(COURSES[-1], num_decay_steps=1, lessons_per_step=1, terms=terms)
    monkeypatch.setattr(pretrain_scenes, "COURSES", (*COURSES[:-1], short))
    monkeypatch.setattr(pretrain_scenes, "examine", lambda *_: RESULTS)
    base = resource_folder("assets") / "scenes_base"
    out, work = tmp_path / "base", tmp_path / "work"
    main(Settings(out=out, work=work, num_families=4, start=base, first_course=len(COURSES)))
    assert f"--start EARLIER --first-course {len(COURSES)}" in (out / "README.md").read_text()
    weights, before = (load_file(folder / "model.safetensors") for folder in (out, base))
    assert weights.keys() == before.keys()
    assert any(not torch.equal(weights[name], before[name]) for name in weights)

"""The recipe of the base checkpoint of the scenes, as far as it goes without training."""

import shutil
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

BASE = resource_folder("assets") / "scenes_base"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match="no device 'cuda'"):
        main(Settings(out=tmp_path / "base", work=tmp_path / "work", device="cuda"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def earlier(tmp_path):
    """The shipped checkpoint with a card that leaves the last course out."""
    folder = tmp_path / "earlier"
    shutil.copytree(BASE, folder)
    lines = (folder / "README.md").read_text().splitlines(keepends=True)
    (folder / "README.md").write_text("".join(line for line in lines if not line.startswith(f"| {len(COURSES)} |")))
    return folder


def test_a_checkpoint_that_has_had_all_courses_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"scenes_base has had all {len(COURSES)} courses, none is left to train"):
        main(Settings(out=tmp_path / "base", work=tmp_path / "work", start=BASE))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_other_tokens_is_refused(tmp_path, earlier, monkeypatch):
    words = pretrain_scenes.common_words()
    monkeypatch.setattr(pretrain_scenes, "common_words", lambda: [*words[1:], "kaleidoscope"])
    with pytest.raises(UserError, match="earlier has other tokens than the prompts and words of today"):
        main(Settings(out=tmp_path / "base", work=tmp_path / "work", num_families=4, start=earlier))
    assert not (tmp_path / "base").exists()


def test_two_goes_with_one_seed_are_one(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_scenes, "examine", lambda *_: RESULTS)
    goes = {"whole": (2, None), "earlier": (1, None), "later": (2, tmp_path / "earlier")}
    courses = [
        replace(course, num_decay_steps=1, lessons_per_step=1, terms=(Term(3, {"choose_image:2": (1.0, 1)}),))
        for course in COURSES[2:4]
    ]
    for name, (num_courses, start) in goes.items():
        monkeypatch.setattr(pretrain_scenes, "COURSES", tuple(courses[:num_courses]))
        main(Settings(out=tmp_path / name, work=tmp_path / f"{name}-work", num_families=4, start=start))
    whole, earlier, later = (load_file(tmp_path / name / "model.safetensors") for name in goes)
    assert any(not torch.equal(whole[name], earlier[name]) for name in whole)
    assert all(torch.equal(whole[name], later[name]) for name in whole)


def test_the_course_that_a_checkpoint_has_not_had(tmp_path, earlier, monkeypatch):
    """Three small steps, while the rate still grows: a card that says where it began, a folder that no other takes."""
    terms = (Term(3, {"choose_image:2": (1.0, 1)}),)
    short = replace(COURSES[-1], num_decay_steps=1, lessons_per_step=1, terms=terms)
    monkeypatch.setattr(pretrain_scenes, "COURSES", (*COURSES[:-1], short))
    monkeypatch.setattr(pretrain_scenes, "examine", lambda *_: RESULTS)
    out, work = tmp_path / "base", tmp_path / "work"
    main(Settings(out=out, work=work, num_families=4, start=earlier))
    assert sorted(path.name for path in work.glob("course-*")) == [f"course-{len(COURSES)}"]
    assert "--start EARLIER\n\nwent on from that" in (out / "README.md").read_text()
    weights, before = (load_file(folder / "model.safetensors") for folder in (out, earlier))
    assert weights.keys() == before.keys()
    assert any(not torch.equal(weights[name], before[name]) for name in weights)
    with pytest.raises(UserError, match="was begun with num_families 4, not 5; choose another --work, or delete it"):
        main(Settings(out=out, work=work, num_families=5, start=earlier))
    with pytest.raises(UserError, match="was begun with start [0-9a-f]{12}, not random weights; choose another --work"):
        main(Settings(out=out, work=work, num_families=4))
    with pytest.raises(UserError, match="README.md is a file; name a folder"):
        main(Settings(out=out, work=earlier / "README.md", start=earlier))

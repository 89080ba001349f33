"""The base checkpoint's card says how it was made, the goes before included."""

from pathlib import Path

import pytest

from data_prep.scenes.pretraining.card import Making, read_card, write_card
from data_prep.scenes.pretraining.courses import COURSES
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import resource_folder

RESULTS = dict.fromkeys(
    ["slots_right", "captions_right", "right_image_of_ten", "right_sentence_of_ten", "words_picks"]
    + [
        f"{way}_{kind}_{whose}"
        for way in ("t2i", "i2t")
        for kind in ("random", "alike")
        for whose in ("picks", "ideal")
    ],
    50.0,
)
MEASURED = {
    "machine": {"num_cores": 2, "cpu": "a CPU", "gpus": []},
    "versions": {"torch": "2.11.0", "transformers": "5.24.0"},
}


def test_a_card_keeps_how_the_checkpoint_before_was_made(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    write_card(first, COURSES, RESULTS, Making("python recipes/pretrain_scenes.py --seed 1", 60, MEASURED))
    before, num_courses = read_card(first)
    assert num_courses == len(COURSES)
    typed = "python recipes/pretrain_scenes.py --seed 2 --start EARLIER"
    write_card(second, COURSES, RESULTS, Making(typed, 90, MEASURED, before))
    assert before.splitlines()[0] == "    python recipes/pretrain_scenes.py --seed 1"
    assert before.endswith("made it in one go, in 60 seconds on 2 cores (a CPU) (torch 2.11.0, transformers 5.24.0).")
    both = read_card(second).makings
    assert both.startswith(f"{before}\n\n    {typed}\n\nwent on from that, EARLIER, in 90 seconds on 2 cores")


@pytest.mark.parametrize("card", [None, b"", b"\xff\xfe\x00 no text", b"| 3 | a table alone |"])
def test_a_folder_without_a_card_is_refused(tmp_path: Path, card: bytes | None) -> None:
    if card is not None:
        (tmp_path / "README.md").write_bytes(card)
    with pytest.raises(UserError, match="has no card of recipes/pretrain_scenes.py"):
        read_card(tmp_path)


def test_the_shipped_checkpoint_has_had_the_courses_of_the_recipe() -> None:
    card = (resource_folder("assets") / "scenes_base" / "README.md").read_text(encoding="utf-8")
    for number, course in enumerate(COURSES, start=1):
        for term in course.terms:
            lessons = ", ".join(f"{name} ({share:.0%}, {rows})" for name, (share, rows) in term.lessons.items())
            assert f"| {number} | {course.learning_rate} | {term.num_steps} | {lessons} |" in card

"""Choice of the example queries, and their content."""

from pathlib import Path
from typing import Any

from semcore.data.directions import Direction
from semcore.report.examples import Shown, choose_examples, read_shown, show_example
from semcore.report.run_contents import RunContents, read_run


def rows_of(run_folder: Path, direction: str) -> tuple[RunContents, dict[str, dict[str, Any]]]:
    run = read_run(run_folder)
    return run, {row["query_id"]: row for row in run.per_query[Direction(direction)]}


def test_every_way_a_query_can_end_is_shown(run_folder: Path) -> None:
    run, _ = rows_of(run_folder, Direction.T2I)
    chosen = {outcome: row["query_id"] for outcome, row in choose_examples(run.per_query[Direction.T2I])}
    assert chosen == {
        "found": "scene0-0",
        "repaired": "scene1-0",
        "spoilt": "scene2-0",
        "confused": "scene3-0",
        "lost": "scene4-0",
    }


def test_without_verification_the_generated_rank_decides(run_folder: Path) -> None:
    run, _ = rows_of(run_folder, Direction.T2I)
    rows = [{**row, "verified": [], "rank_verified": None} for row in run.per_query[Direction.T2I]]
    outcomes = [outcome for outcome, _ in choose_examples(rows, num_per_outcome=9)]
    assert outcomes == ["found"] * 2 + ["confused"] * 3


def test_the_seed_chooses() -> None:
    def row(number: int) -> dict[str, Any]:
        return {"query_id": str(number), "verified": [{}], "rank_generated": 1, "rank_verified": 1}

    rows = [row(number) for number in range(100)]

    def chosen(seed: int) -> list[str]:
        return [each["query_id"] for _, each in choose_examples(rows, num_per_outcome=3, seed=seed)]

    assert chosen(0) == chosen(0)
    assert len(set(chosen(0))) == 3
    assert chosen(0) != chosen(1)


def test_a_text_query_shows_pictures_and_where_they_came_from(run_folder: Path) -> None:
    run, rows = rows_of(run_folder, Direction.T2I)
    assert run.dataset is not None
    row = rows["scene1-0"]
    example = show_example("repaired", row, Direction.T2I, read_shown(run.dataset, Direction.T2I, [row]))
    assert example.outcome == "Put right by verification"
    assert example.query.text == row["query"]
    assert [hit.item.item_id for hit in example.hits] == ["scene1", "scene7", "scene6", "scene5"]
    assert [hit.right for hit in example.hits] == [True, False, False, False]
    assert [hit.rank_generated for hit in example.hits] == [3, 1, 2, 4]
    assert example.hits[0].identifier == "<|cluster_3|>scene1"
    assert example.hits[0].item.picture is not None
    assert example.missed == []


def test_an_unreadable_image_is_shown_as_its_id(run_folder: Path) -> None:
    run, rows = rows_of(run_folder, Direction.T2I)
    assert run.dataset is not None
    shown = read_shown(run.dataset, Direction.T2I, rows.values())
    assert "scene7" not in shown.pictures
    assert "scene6" in shown.pictures


def test_the_right_item_is_shown_when_it_was_missed(run_folder: Path) -> None:
    run, rows = rows_of(run_folder, Direction.I2T)
    assert run.dataset is not None
    row = rows["scene2"]
    example = show_example("lost", row, Direction.I2T, read_shown(run.dataset, Direction.I2T, [row]))
    assert example.query.picture is not None
    assert [item.item_id for item in example.missed] == ["scene2-0", "scene2-1"]
    assert example.missed[1].text == "another word on scene2"
    assert example.rank_generated is example.rank_verified is None


def test_an_image_and_a_sentence_of_the_same_name_are_kept_apart() -> None:
    row = {
        "query_id": "7",
        "query": "a cat",
        "right": ["7"],
        "generated": [{"item_id": "7", "identifier": "x", "score": 0.0}],
        "verified": [],
        "rank_generated": 1,
        "rank_verified": None,
    }
    example = show_example("found", row, Direction.T2I, Shown({}, {"7": "the sentence 7"}))
    assert example.hits[0].item.text == ""
    assert example.query.text == "a cat"

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from semcore.commands import cli
from semcore.runtime.tested_versions import Difference


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "COMMAND is missing; see --help"),
        (("serch",), "there is no command 'serch'; did you mean search?"),
        (
            ("fly",),
            f"there is no command 'fly'; there are {', '.join(cli.COMMANDS)}",
        ),
        (
            ("--fly",),
            f"there is no command '--fly'; there are {', '.join(cli.COMMANDS)}",
        ),
        (("search", "--run", "r"), "search needs one query: a text such as 'a red circle', or --image FILE"),
        (
            ("search", "--run", "r", "a text", "--image", "i.png"),
            "search needs one query: a text such as 'a red circle', or --image FILE",
        ),
        (("search", "--run", "r", " "), "search needs one query: a text such as 'a red circle', or --image FILE"),
        (
            ("search", "--run", "r", "a text", "--split", "dev"),
            "--split takes one of all, train, val, test, found 'dev'",
        ),
        (("search", "a text"), "--run is missing; see --help"),
        (("search", "--run", "r", "a text", "--top-k", "0"), "--top-k must be 1 or more, found 0"),
        (("search", "--run", "r", "a text", "--top-k", "ten"), "--top-k takes a whole number, found 'ten'"),
        (("init",), "FOLDER is missing; see --help"),
        (("convert-checkpoint", "a"), "DST is missing; see --help"),
        (
            ("convert-checkpoint", "a", "a"),
            "SRC and DST are the same folder, a; give another DST: the original is kept",
        ),
        (("quickstart",), "--out is missing; see --help"),
        (("quickstart", "--out", "r", "--test", "0"), "--test takes a whole number from 1 on, found 0"),
        (("env", "--jsn"), "unknown option --jsn; did you mean --json?"),
    ],
)
def test_a_usage_error_is_one_sentence_and_exit_code_2(semcore: Any, arguments: tuple[str, ...], sentence: str) -> None:
    assert semcore(*arguments) == (2, "", f"error: {sentence}\n")


def test_help_names_every_command(semcore: Any) -> None:
    code, out, _ = semcore("--help")
    assert code == 0
    assert all(f"  {command}" in out for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(semcore: Any, command: str) -> None:
    code, out, _ = semcore(command, "--help")
    assert code == 0
    assert out.startswith(f"usage: semcore {command}")


def test_version(semcore: Any) -> None:
    assert semcore("--version")[1] == "semcore 0.1.0\n"


def test_commands_that_run_no_model_do_without_torch() -> None:
    code = "import sys; from semcore.commands import cli\ntry: cli.main()\nfinally: assert 'torch' not in sys.modules"
    for arguments in (["quickstart", "--out", "r", "--test=0"], ["init", "--help"], ["search", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert "AssertionError" not in done.stderr


def test_init_copies_and_says_where(semcore: Any, tmp_path: Path) -> None:
    code, out, _ = semcore("init", str(tmp_path / "mine"))
    number = len([path for path in (tmp_path / "mine").rglob("*") if path.is_file()])
    assert (code, out) == (0, f"{number} files written to {tmp_path / 'mine'}; commands started there use them\n")


def test_env_for_people_and_for_machines(semcore: Any) -> None:
    code, out, _ = semcore("env")
    assert code == 0
    assert "transformers" in out
    facts = json.loads(semcore("env", "--json")[1])
    assert facts["libraries"]["transformers"] in out


def test_env_names_what_is_not_the_tested_version(semcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcore.commands.env.differences", lambda: [Difference("numpy", "2.5.0", "2.4.6")])
    assert "numpy 2.5.0 (tested: 2.4.6)" in semcore("env")[1]
    assert json.loads(semcore("env", "--json")[1])["untested"][0]["tested"] == "2.4.6"


@dataclass(frozen=True)
class Basis:
    of: str = "log_sum_exp"
    value: float = 1.5
    below: float = 2.25


@dataclass(frozen=True)
class Hit:
    item_id: str
    score: float
    identifier: str
    confidence: float | None
    text: str | None
    image_path: Path | None
    no_match: bool | None = None
    no_match_by: Basis | None = None

    def explain(self) -> dict[str, Any]:
        return explanation_of(self.item_id, "found")


def explanation_of(item_id: str, outcome: str) -> dict[str, Any]:
    """Return an explanation with as little in it as can be."""
    step = {
        "depth": 1, "token": "dog", "part": "keyword", "keyword": "dog", "log_probability": -1.0, "sum": -1.0,
        "log_prior": None, "num_branches": 1, "best_other": None,
    }  # fmt: skip
    lost = {"depth": 1, "prefix": "dog", "prefix_score": -1.0, "last_beam_score": -0.5}
    return {
        "query": {"direction": "t2i", "text": "a dog"},
        "item": {"item_id": item_id, "identifier": "dog", "text": None, "image_path": None},
        "rank": 1 if outcome == "found" else None,
        "cluster": None,
        "keywords": [{"keyword": "dog", "in_query": True}],
        "steps": [step],
        "generator": {"log_probability": -1.0, "prior_weight": 0.0, "log_prior": None, "rank": None, "num_beams": 20},
        "verifier": None,
        "fusion": None,
        "search": {"outcome": outcome, **(lost if outcome == "lost" else {})},
    }


class FakeRetriever:
    """Remembers what it was asked, and finds one picture or one sentence."""

    asked: dict[str, Any]

    @classmethod
    def from_run(cls, run: Path, **options: Any) -> FakeRetriever:
        cls.asked = {"run": run, **options}
        return cls()

    def prior_note(self, direction: str) -> str:
        return ""

    def explain(self, *, item_id: str, **query: Any) -> dict[str, Any]:
        type(self).asked |= {"explained": query}
        return explanation_of(item_id, "lost")

    def confidence_note(self, direction: str) -> str:
        return f"val had fewer items of {direction}"

    def search(self, *, text: str | None = None, image: Path | None = None, top_k: int) -> list[Hit]:
        type(self).asked |= {"text": text, "image": image, "top_k": top_k}
        if text:
            path = Path("images/scene-7.png")
            return [Hit("scene-7", -0.25, "<|cluster_17|>red circle", 0.9, None, path, True, Basis())]
        return [Hit("scene-7-0", -0.25, "<|cluster_17|>red circle", None, "a red circle", None)]


@pytest.fixture
def retriever(monkeypatch: pytest.MonkeyPatch) -> type[FakeRetriever]:
    module = ModuleType("semcore.retrieval.retriever")
    module.Retriever = FakeRetriever  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "semcore.retrieval.retriever", module)
    return FakeRetriever


def test_search_prints_ranked_hits(semcore: Any, retriever: type[FakeRetriever]) -> None:
    code, out, err = semcore("search", "--run", "r", "a red circle", "--top-k", "3", "--split", "test")
    assert code == 0
    assert "val had fewer items of t2i" in err
    assert "scene-7" in out
    assert "images/scene-7.png" in out
    assert retriever.asked["text"] == "a red circle"
    assert (retriever.asked["top_k"], retriever.asked["split"]) == (3, "test")


def test_a_sentence_with_brackets_is_shown_as_it_is(
    semcore: Any, retriever: type[FakeRetriever], monkeypatch: pytest.MonkeyPatch
) -> None:
    hit = Hit("s-1", 1.0, "<|cluster_1|>[red]", None, "a [bold] dog", None)
    monkeypatch.setattr(retriever, "search", lambda self, **query: [hit])
    _, out, _ = semcore("search", "--run", "r", "--image", "query.png")
    assert "<|cluster_1|>[red]" in out
    assert "a [bold] dog" in out


def test_search_prints_json_a_line(semcore: Any, retriever: type[FakeRetriever]) -> None:
    _, out, _ = semcore("search", "--run", "r", "--image", "query.png", "--json")
    (row,) = map(json.loads, out.splitlines())
    assert (row["item_id"], row["text"], row["image_path"]) == ("scene-7-0", "a red circle", None)
    assert retriever.asked["image"] == Path("query.png")


def test_no_match_is_said_beside_the_hits(semcore: Any, retriever: type[FakeRetriever]) -> None:
    _, out, err = semcore("search", "--run", "r", "a red circle")
    assert "scene-7" in out
    assert err.splitlines()[0] == (
        "search: no match: the scores of all candidates together come to 1.50 (log_sum_exp), below 2.25, the threshold "
        "fitted on val"
    )
    _, out, err = semcore("search", "--run", "r", "a red circle", "--json")
    row = json.loads(out)
    assert row["no_match"] is True
    assert row["no_match_by"] == {"of": "log_sum_exp", "value": 1.5, "below": 2.25}
    _, _, err = semcore("search", "--run", "r", "--image", "query.png")
    assert "no match" not in err


def test_the_best_hit_and_the_answer_are_explained(semcore: Any, retriever: type[FakeRetriever]) -> None:
    code, out, _ = semcore("search", "--run", "r", "a dog", "--explain", "--answer", "scene-9")
    assert code == 0
    assert "rank 1: the best hit" in out
    assert "lost at depth 1: 'dog' has -1.00, the last of 20 beams -0.50" in out
    assert retriever.asked["explained"] == {"text": "a dog", "top_k": 10}
    _, out, _ = semcore("search", "--run", "r", "a dog", "--explain", "--answer", "scene-9", "--json")
    hit, answer = map(json.loads, out.splitlines())
    assert hit["explanation"]["search"]["outcome"] == "found"
    assert answer["answer"]["item"]["item_id"] == "scene-9"

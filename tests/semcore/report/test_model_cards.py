"""Model cards are read by the hub's own reader and show given text literally."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt

from semcore.data.run_folder import RunFolder
from semcore.evaluation.metrics import retrieval_metrics
from semcore.report.model_cards import render_model_card, retrieval_results, write_model_card, write_model_cards
from semcore.runtime.files import write_json

SCORES = retrieval_metrics({"q1": ["a"], "q2": ["b", "c"], "q3": []}, {"q1": {"a"}, "q2": {"c"}, "q3": {"a"}}, 3)


def card(**changes: Any) -> str:
    given: dict[str, Any] = {
        "name": "identifier model",
        "summary": "Writes the identifier of what is searched.",
        "base_model": "OpenGVLab/InternVL2_5-1B",
        "dataset": "scenes",
        "usage": 'semcore search --run RUN "a red circle"',
        "training": {"learning_rate": 1e-4, "lora": {"r": 8}},
        "results": retrieval_results({"t2i": SCORES}, "scenes"),
        "limits": ["It has seen drawings only."],
        "licence": "apache-2.0",
    }
    return render_model_card(**{**given, **changes})


def data_of(text: str) -> ModelCardData:
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_hub_reads_what_was_measured() -> None:
    data = data_of(card())
    assert (data.license, data.base_model, data.library_name) == (
        "apache-2.0",
        "OpenGVLab/InternVL2_5-1B",
        "transformers",
    )
    assert data.eval_results is not None
    measured = {result.metric_name: result.metric_value for result in data.eval_results}
    assert measured == {"R@1": 33.3333, "R@5": 66.6667, "R@10": 66.6667, "MRR@10": 0.5}
    assert {result.metric_type for result in data.eval_results} == {
        "recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10",
    }  # fmt: skip


def test_the_text_says_how_it_was_made_and_how_good_it_is() -> None:
    text = ModelCard(card()).text
    assert "# identifier model\n\nWrites the identifier of what is searched.\n" in text
    assert "- trained from: OpenGVLab/InternVL2\\_5-1B\n- trained on: scenes\n" in text
    assert '```\nsemcore search --run RUN "a red circle"\n```' in text
    assert "| text to image retrieval | scenes | R@1 | 33.33 |" in text
    assert "| learning\\_rate | 0.0001 |\n| lora r | 8 |" in text
    assert "## Limits\n\n- It has seen drawings only.\n" in text


def test_a_folder_is_no_hub_id(tmp_path: Path) -> None:
    text = card(base_model=str(tmp_path))
    assert data_of(text).base_model is None
    assert "trained from:" in text
    assert "- trained from: random weights\n" in card(base_model=None)


def test_without_results_and_limits_their_sections_are_left_out() -> None:
    text = card(results=[], limits=[], licence=None)
    assert data_of(text).eval_results is None
    assert "## Results" not in text
    assert "## Limits" not in text


def test_given_text_is_no_markup() -> None:
    hostile = "a | b\n---\n<script>alert(1)</script> {{ 7 * 7 }}"
    text = card(name=hostile, summary=hostile, dataset=hostile, usage="```\n<script>", training={hostile: hostile})
    read = ModelCard(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(read.text)
    assert not [token for token in tokens if token.type in {"html_block", "hr"}]
    assert not [child for token in tokens for child in token.children or [] if child.type == "html_inline"]
    assert [token.content for token in tokens if token.type == "fence"] == ["```\n<script>\n"]
    assert "49" not in read.text


def test_the_card_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("what a trainer left")
    assert write_model_card(tmp_path, card()) == tmp_path / "README.md"
    assert (tmp_path / "README.md").read_text() == card()


def test_a_model_of_another_run_keeps_that_runs_card(tmp_path: Path) -> None:
    """A study's variants share a model, and are evaluated side by side: the last would leave its scores in the card."""
    stage = {"finished": True, "settings": {"model": {"base": "a/b"}, "training": {"seed": 0}}}
    for name in ("full", "variant"):
        write_json(tmp_path / name / "manifest.json", {"stages": {"train_identifier": stage}})
    model = tmp_path / "full" / "identifier_model"
    model.mkdir()
    (tmp_path / "variant" / "identifier_model").symlink_to("../full/identifier_model")
    assert write_model_cards(RunFolder(tmp_path / "variant"), "scenes") == []
    assert not (model / "README.md").exists()
    assert write_model_cards(RunFolder(tmp_path / "full"), "scenes") == [model / "README.md"]

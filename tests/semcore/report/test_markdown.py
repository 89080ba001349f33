"""report.md: its tables, its images, and no markup injected by a sentence."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from semcore.report import write_report
from semcore.runtime.files import read_json, write_json
from tests.semcore.report.small_run import ATTACKS, change_json, visible, write_run_folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report, to be read only."""
    run_folder = write_run_folder(tmp_path_factory.mktemp("markdown"))
    write_report(run_folder)
    return run_folder


def read(run_folder: Path) -> str:
    return (run_folder / "report.md").read_text(encoding="utf-8")


def report(run_folder: Path) -> str:
    return write_report(run_folder)[0].read_text(encoding="utf-8")


def inline_tokens(markdown: str) -> list[Token]:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    assert not [token for token in tokens if token.type in {"html_block", "fence", "code_block", "hr"}]
    return [child for token in tokens for child in token.children or []]


def test_the_table_of_a_direction(reported: Path) -> None:
    text = read(reported)
    assert text.startswith(
        "# my\\_run\n\n- dataset: tiny \\<b\\>scenes\\</b\\>\n- split: test\n- protocol: inductive: nothing was learnt"
    )
    table = text[text.index("## Text → image") :].split("\n\n")[2].splitlines()
    assert table[0] == "| | R@1 | R@5 | R@10 | rSum@5 | rSum | MRR@10 |"
    assert table[1] == "|:--|--:|--:|--:|--:|--:|--:|"
    assert table[2].startswith("| generated | 40.0 (0.0–80.0) | 80.0 (")
    assert table[2].endswith(" | 120.0 | 220.0 | 0.595 |")
    assert table[4].startswith("| listwise alone | 12.5 | 80.0 | 100.0 |")
    assert table[5] == "| ceiling | 80.0 | – | – | – | – | – |"
    assert table[6].startswith("| without trie | 12.5 | 80.0 | 100.0 |")
    assert len(table) == 8
    assert "5 queries, 8 items of test. 2 of the queries can find nothing right" in text


def test_the_table_of_order_bias(reported: Path) -> None:
    """One direction has it, the other was not measured."""
    [section] = read(reported).split("### Order bias of the listwise verifier\n\n")[1:]
    assert section.split("\n\n")[1].splitlines() == [
        "| model | shifts | accuracy | spread | agreement | A | B |",
        "|:--|--:|--:|--:|--:|--:|--:|",
        "| trained | 1 | 62.5 | 12.5 | 60.0 | 75.0 | 50.0 |",
        "| trained | 2 | 70.0 | 0.0 | 90.0 | 70.0 | 70.0 |",
    ]


def test_the_table_of_verifiers(reported: Path) -> None:
    """One table, with the seconds of those that are known."""
    [section] = read(reported).split("### Verifiers\n\n")[1:]
    table = section.split("\n\n")[0].splitlines()
    assert table[0].endswith(" MRR@10 | seconds |")
    assert table[1] == "|:--|--:|--:|--:|--:|--:|--:|--:|"
    names = ["| listwise", "| listwise alone", "| blocks", "| blocks alone", "| likelihood"]
    assert [line.split(" | ")[0] for line in table[2:]] == names
    assert [line.split(" | ")[-1] for line in table[2:]] == ["12.5 |", "– |", "0.8 |", "– |", "– |"]
    assert "the paper has no such sum" in section


def test_stages_verifiers_and_prompts_are_there(reported: Path) -> None:
    text = read(reported)
    assert "| train\\_identifier | 2 min 5 s | 1.5 GiB | 2 | deepspeed, ZeRO-2 | 3.500 → 0.250 in 1,200 steps |" in text
    assert "| all | 3 min 20 s | 1.5 GiB |" in text
    assert "### Verifiers\n\n| | R@1 |" in text
    assert "| caption.jinja | 0123456789ab |" in text
    assert "| memory | 8.0 GiB |" in text
    assert "| cpu | a \\| b |" in text


def test_every_image_is_a_small_file_beside_the_report(reported: Path) -> None:
    images = [str(token.attrs["src"]) for token in inline_tokens(read(reported)) if token.type == "image"]
    assert len(images) >= 10
    for link in images:
        with Image.open(reported / link) as image:
            assert max(image.size) <= 160
    linked = {Path(link).name for link in images}
    assert linked == {path.name for path in (reported / "report_images").iterdir()}


def test_sentences_are_shown_and_never_become_markup(reported: Path) -> None:
    tokens = inline_tokens(read(reported))
    kinds = {token.type for token in tokens}
    assert kinds <= {"text", "text_special", "softbreak", "image"}
    shown = "".join(token.content for token in tokens)
    for attack in ATTACKS.values():
        assert visible(attack) in shown


def test_both_directions_have_examples(reported: Path) -> None:
    text = read(reported)
    pictures = text[text.index("## Examples: Text → image") : text.index("## Examples: Image → text")]
    sentences = text[text.index("## Examples: Image → text") :]
    assert "### Put wrong by verification" in pictures
    assert "the right item is generated at rank 7." in pictures
    assert "### Not on the shortlist" in sentences
    assert "the right item is not generated." in sentences
    assert "![image scene0](report_images/scene0.png)" in sentences
    assert "| 1 | ✓ | the scene0 as it is | \\<\\|cluster\\_3\\|\\>scene0-0 | 2 |" in sentences


def test_a_second_report_is_the_same_and_leaves_no_old_image(run_folder: Path) -> None:
    first = report(run_folder)
    (run_folder / "report_images" / "old.png").write_bytes(b"old")
    assert report(run_folder) == first
    assert not (run_folder / "report_images" / "old.png").exists()


def test_without_the_dataset_ids_stand_in_for_images(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    text = report(run_folder)
    assert "Without pictures and sentences: the dataset of" in text
    assert "| 1 | ✓ | scene0 |" in text
    assert "report\\_images" not in text
    assert "report_images" not in text
    assert not (run_folder / "report_images").exists()


def test_the_bare_contract_is_enough(run_folder: Path) -> None:
    """No ceiling, ablation, second verifier, seconds, nor anything in the manifest but the dataset."""
    metrics, manifest = (read_json(run_folder / name) for name in ("metrics.json", "manifest.json"))
    write_json(run_folder / "metrics.json", {direction: metrics[direction] for direction in ("t2i", "i2t")})
    write_json(run_folder / "manifest.json", {"data": manifest["data"]})
    text = report(run_folder)
    for heading in ("What it took", "Verifiers", "Machine", "Prompts"):
        assert heading not in text
    assert "| verified | 40.0" in text


def test_sentences_that_no_search_can_tell_apart_are_counted(run_folder: Path) -> None:
    assert "more than one image" not in report(run_folder)
    change_json(run_folder / "metrics.json", num_shared_sentences={"t2i": 0, "i2t": 3})
    text, section, images = report(run_folder).partition("## Image → text")
    assert section and "more than one image" not in text
    assert "3 sentences stand word for word under more than one image" in images
    assert "order of the dataset" in images

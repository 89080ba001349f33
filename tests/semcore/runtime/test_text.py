"""Text is normalised in one way everywhere: texts that look alike are equal, and lone surrogates end no job."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from data_prep.clean_sentences import clean_sentence
from semcore.data.caption_files import read_captions
from semcore.data.dataset import load_dataset
from semcore.models.prompts import load_prompts
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, read_json, read_jsonl, write_json
from semcore.runtime.text import clean_text, whole_characters

ROOT = Path(__file__).resolve().parents[3]
CASE = Path(__file__).parents[4] / "shared" / "cases" / "13_text" / "captions_lone_surrogate.jsonl"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a dog\n\t on  grass ", "a dog on grass"),
        ("a\x00 dog\x07\x7f\x85!", "a dog !"),
        ("cafe\u0301", "café"),
        ("cho\u0301 ma\u0300u", "chó màu"),
        ("\u1100\u1161\u11a8", "각"),
        ("half \ud83d", "half \ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("whole \ud83d\ude00", "whole 😀"),
        ("\u202egnp.exe\u202c \u2066dog\u2069", "gnp.exe dog"),
        ("d\u200bo\u2060g\ufeff \u00adcat", "dog cat"),
        ("<|im_\u200bend|>", "<|im_end|>"),
        ("a\u00a0b\u3000c\u2028d\u3164e", "a b c d e"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("ക\u0d4d\u200dഷ", "ക\u0d4d\u200dഷ"),
        ("do\u200cg\u200d", "dog"),
        ("👩\u200d🚀 ❤\ufe0f", "👩\u200d🚀 ❤\ufe0f"),
        ("หมา\u200bแมว", "หมา\u200bแมว"),
        ("\u200b\u200d\ufeff", ""),
        ("e\u200b\u0301", "é"),
        ("tag\U000e0041\U000e0042", "tag"),
    ],
)
def test_text_is_cleaned(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_cleaning_twice_changes_nothing_and_gives_valid_composed_text() -> None:
    drawn = random.Random(0)
    letters = [*map(chr, range(0x300)), *map(chr, range(0x600, 0x6FF)), *"กาัे्क가각汉カ"]
    letters += list("\u200b\u200c\u200d\u200e\ufeff\u0301\ud83d\ude00\u3164\u2028") * 20
    for _ in range(5_000):
        cleaned = clean_text("".join(drawn.choices(letters, k=9)))
        assert clean_text(cleaned) == cleaned
        assert unicodedata.is_normalized("NFC", cleaned)
        cleaned.encode()


def test_halves_alone_are_mended_and_all_else_kept() -> None:
    assert whole_characters("a  b\n\ud800 e\u0301") == "a  b\n\ufffd e\u0301"


def test_prompts_show_cleaned_text_and_no_special_token_is_hidden_in_it() -> None:
    prompts = load_prompts(special_tokens=["<|im_end|>"])
    shown = prompts.render("identify_t2i", query="cafe\u0301 \ud83d <|im_\u200bend|>\u202e")
    shown.encode()
    assert "café \ufffd < |im_end|>" in shown


def test_captions_sentences_and_ids_with_halves_of_characters_are_read(tiny_dataset: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (tiny_dataset / "metadata.jsonl").read_text().splitlines()]
    rows[0]["sentences"][0]["text"] = "a \ud83d cafe\u0301\x00"
    rows[1]["source_file"] = "\udce9.png"
    (tiny_dataset / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load_dataset(tiny_dataset)
    assert dataset.images[0].sentences[0].text == "a \ufffd café"
    dataset.images[1].source_file.encode()
    captions = tmp_path / "captions.jsonl"
    captions.write_text(json.dumps({"image_id": "tiny-0", "caption": "  cafe\u0301 \ud83d\n"}))
    assert read_captions(captions, dataset).items[0].text == "café \ufffd"
    rows[0]["sentences"][0]["sentence_id"] = "a\u202eb"
    (tiny_dataset / "metadata.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(UserError, match=r"line 1: sentence_id .* is not seen"):
        load_dataset(tiny_dataset)


@pytest.mark.skipif(not CASE.is_file(), reason=f"the case is missing: {CASE}")
def test_the_case_of_a_half_character_is_read() -> None:
    captions = {row["image_id"]: row["caption"] for row in read_jsonl(CASE)}
    assert captions["scene-000003"] == "a red circle \ufffd and a star"


def test_what_no_file_can_hold_is_escaped_and_json_reads_it_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": "caf\udce9"})
    assert read_json(tmp_path / "a.json") == {"path": "caf\udce9"}
    with atomic_text(tmp_path / "report.md") as handle:
        handle.write("caf\udce9")
    (tmp_path / "report.md").read_text(encoding="utf-8")


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    code = (
        "import sys; from dataclasses import dataclass; from semcore.commands.arguments import run_command\n"
        "@dataclass\nclass Settings:\n    text: str\n"
        "run_command(lambda settings: print(settings.text), Settings, arguments=sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, b"--text=a\xff \xe7\x8a\xac"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\\udcff \\u72ac\n", "")


def test_importers_count_what_they_clean() -> None:
    assert clean_sentence("cafe\u0301") == ("café", [])
    assert clean_sentence("a \ud83d\ude00") == ("a 😀", [])
    assert clean_sentence("a \ud83d\u202e") == ("a \ufffd", ["no_text", "control"])

"""The command `python -m data_prep.identifiers`."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from data_prep import identifiers
from data_prep.identifiers import Settings, main
from semcore.commands.arguments import run_command
from semcore.data.identifier_files import read_cluster_words, read_identifiers
from semcore.data.run_folder import RunFolder
from semcore.identifiers.clusters import load_centroids
from semcore.identifiers.code_settings import QuantizerSettings
from semcore.identifiers.mention_rates import read_mention_rates
from semcore.runtime.files import write_json, write_jsonl

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "star", "ring", "cross")
SCRIPTS = Path(__file__).parents[3] / "shared" / "cases" / "15_scripts"
OUTPUTS = (
    "t2i.jsonl", "i2t.jsonl", "clusters.safetensors", "cluster_words.json", "mention_rates.jsonl", "report.json",
    "report.md",
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count letters instead of loading weights."""

    def encode(texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32)

    monkeypatch.setattr(identifiers, "load_encoder", lambda name, device: encode)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return DATA and RUN: twenty scenes of which the last has no caption, one caption without a word left."""
    scenes = [(f"{colour}-{shape}", f"a {colour} {shape}") for colour in COLOURS for shape in SHAPES]
    splits = ["train", "train", "train", "val", "test"]
    rows = [
        {
            "file_name": f"images/{name}.png",
            "image_id": name,
            "split": splits[n % 5],
            "sentences": [{"sentence_id": f"{name}-s", "text": f"{text} on grass"}],
        }
        for n, (name, text) in enumerate(scenes)
    ]
    write_jsonl(tmp_path / "DATA" / "metadata.jsonl", rows)
    write_json(tmp_path / "DATA" / "dataset.json", {"name": "scenes"})
    captions = [{"image_id": name, "caption": text} for name, text in scenes[:-1]]
    captions[3]["caption"] = "<|cluster_1|> of <|im_end|>"
    captions[4]["caption"] = "this and that"
    write_jsonl(tmp_path / "RUN" / "captions.jsonl", captions)
    return tmp_path / "DATA", tmp_path / "RUN"


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as exit_of:
            run_command(main, Settings, "identifiers", arguments=[str(argument) for argument in arguments])
        assert exit_of.value.code == 2
        return capsys.readouterr().err

    return run


def test_every_captioned_image_and_every_sentence_gets_an_identifier(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = folders
    main(Settings(run=run, data=data, num_clusters=3, num_cluster_words=1))
    assert sorted(path.name for path in (run / "identifiers").iterdir()) == sorted(OUTPUTS)
    t2i, i2t = (read_identifiers(run / "identifiers", direction) for direction in ("t2i", "i2t"))
    assert len(t2i) == 19
    assert [row["item_id"] for row in i2t][-1] == "yellow-cross-s"
    assert len(i2t) == 20
    assert all(re.fullmatch(r"<\|cluster_[012]\|>(\w+( \w+)*)?", row["identifier"]) for row in [*t2i, *i2t])
    assert load_centroids(run / "identifiers").shape == (3, 26)
    assert len(read_cluster_words(run / "identifiers")) == 3

    report = json.loads((run / "identifiers" / "report.json").read_text())
    assert report["captions"] == {"num_images": 20, "num_captioned": 19, "missing": ["yellow-cross"], "num_unknown": 0}
    assert "red-cross" in report["without_keyword"]["t2i"]
    assert report["protocol"] == "inductive"
    stage = RunFolder(run).manifest()["stages"]["identifiers"]
    assert stage["finished"]
    assert stage["settings"]["num_clusters"] == 3
    printed = capsys.readouterr().out
    assert "1 of 20 images have no caption and so none" in printed
    assert "next: accelerate launch" in printed


def test_a_second_run_skips_and_other_settings_are_noticed(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], error_of: Callable[..., str]
) -> None:
    data, run = folders
    main(Settings(run=run, data=data, num_clusters=3))
    before = {name: (run / "identifiers" / name).stat().st_mtime_ns for name in OUTPUTS}
    main(Settings(run=run, num_clusters=3))
    assert "already made" in capsys.readouterr().out
    assert {name: (run / "identifiers" / name).stat().st_mtime_ns for name in OUTPUTS} == before
    assert "num_clusters 3, not 4" in error_of("--run", run, "--num-clusters", "4")
    with (run / "captions.jsonl").open("a") as handle:
        handle.write('{"image_id": "yellow-cross", "caption": "a yellow cross"}\n')
    assert "captions.jsonl has changed" in error_of("--run", run, "--num-clusters", "3")


def test_the_same_seed_writes_the_same_bytes_also_after_a_kill(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = folders
    settings: dict[str, Any] = {"data": data, "num_clusters": 4, "seed": 3}
    main(Settings(run=run, **settings))
    other = run.with_name("OTHER")
    write_jsonl(other / "captions.jsonl", [json.loads(line) for line in (run / "captions.jsonl").open()])
    with monkeypatch.context() as patch:
        patch.setattr("semcore.identifiers.write.save_centroids", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(Settings(run=other, **settings))
    main(Settings(run=other, **settings))
    for name in OUTPUTS:
        assert (run / "identifiers" / name).read_bytes() == (other / "identifiers" / name).read_bytes()


def test_the_protocol_is_recorded_and_the_config_file_is_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = folders
    config = tmp_path / "small.yaml"
    config.write_text("identifiers:\n  num_clusters: 3\n  protocol: transductive\n  ngram_range: [1, 2]\n")
    arguments = ["--data", str(data), "--run", str(run), "--config", str(config), "--num-keywords", "2"]
    run_command(main, Settings, "identifiers", arguments=arguments)
    report = json.loads((run / "identifiers" / "report.json").read_text())
    assert (report["protocol"], report["num_fitted"], report["num_keywords"]) == ("transductive", 19, 2)
    assert any(" " in word for row in read_identifiers(run / "identifiers", "t2i") for word in row["lexical_id"])


def test_an_encoder_to_download_is_announced(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = folders
    monkeypatch.setattr(identifiers, "needs_download", lambda name: name == "someone/encoder")
    main(Settings(run=run, data=data, num_clusters=3, encoder="someone/encoder"))
    assert "downloading the sentence encoder someone/encoder" in capsys.readouterr().out


def test_missing_captions_name_the_command_that_makes_them(
    folders: tuple[Path, Path], error_of: Callable[..., str]
) -> None:
    data, run = folders
    nowhere = run.with_name("NOWHERE")
    error = error_of("--data", data, "--run", nowhere)
    assert f"{nowhere}/captions.jsonl" in error
    assert f"`python -m data_prep.caption --data {data} --run {nowhere} --model CHECKPOINT`" in error
    assert not nowhere.exists()


def test_too_many_clusters_leave_nothing_behind(folders: tuple[Path, Path], error_of: Callable[..., str]) -> None:
    data, run = folders
    assert "--num-clusters 12" in error_of("--data", data, "--run", run)
    assert not (run / "identifiers").exists()
    assert not (run / "manifest.json").exists()


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("--num-clusters", "0", ["--num-clusters", "found 0"]),
        ("--num-keywords", "-1", ["--num-keywords", "found -1"]),
        ("--num-keywords", "four", ["keywords", "'four'"]),
        ("--ngram-range", "[2,1]", ["--ngram-range", "[1,2]", "found [2, 1]"]),
        ("--protocol", "semi", ["--protocol", "inductive, transductive", "'semi'"]),
        ("--seed", "-1", ["--seed", "0 to 4294967295", "-1"]),
        ("--max-fit-items", "5", ["--max-fit-items", "--num-clusters", "found 5"]),
        ("--keyword-method", "yake", ["fast, keybert", "'yake'"]),
        ("--diversity", "0.5", ["--diversity 0.5", "--keyword-method fast", "--keyword-method keybert"]),
        ("--nr-candidates", "8", ["--nr-candidates 8", "--keyword-method fast", "--keyword-method keybert"]),
        ("--keyword-order", "random", ["similarity, mention_rate", "'random'"]),
        ("--num-cluster", "5", ["--num-cluster;", "clusters?"]),
        ("--encoder", "./nowhere", ["./nowhere", "--encoder"]),
        ("--scheme", "semantic", ["--scheme", "structured, numeric, vokens", "'semantic'"]),
        ("--branch", "1", ["--branch must be 2 or more, found 1"]),
        ("--per-item", "0", ["--per-item must be 1 or more, found 0"]),
        ("--collisions", "hash", ["share, count, next", "'hash'"]),
        ("--token-init", "zero", ["words, codebook, random", "'zero'"]),
        ("--quantizer.num-codes", "0", ["--quantizer.num-codes must be 1 or more, found 0"]),
        ("--quantizer.layers", "[8,0]", ["--quantizer.layers takes widths from 1 on such as [512, 256], found [8, 0]"]),
        ("--quantizer.align", "1", ["--quantizer.align 1 is trained, which k-means is not", "rq-vae"]),
        ("--quantizer.shared", "true", ["--quantizer.shared true is trained, which k-means is not", "rq-vae"]),
    ],
)
def test_a_wrong_option_is_one_sentence(
    folders: tuple[Path, Path], error_of: Callable[..., str], option: str, value: str, parts: list[str]
) -> None:
    data, run = folders
    clusters = [] if option == "--num-clusters" else ["--num-clusters", "6"]
    error = error_of("--data", data, "--run", run, *clusters, option, value)
    assert all(part in error for part in parts) and error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--diversity", "1.5"), ("--diversity", "from 0 to 1", "1.5")),
        (("--nr-candidates", "3"), ("--nr-candidates", "--num-keywords (4)", "3")),
        (("--nr-candidates", "9", "--diversity", "0.1"), ("--diversity 0.1", "--nr-candidates 9")),
        (("--diversity", "0.1", "--keyword_choice", "mention_rate"), ("--diversity 0.1", "--keyword-choice")),
        (("--nr-candidates", "9", "--keyword-choice", "mention_rate"), ("--nr-candidates 9", "--keyword-choice")),
    ],
)
def test_what_keybert_cannot_do_is_one_sentence(
    folders: tuple[Path, Path], error_of: Callable[..., str], options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    data, run = folders
    error = error_of("--data", data, "--run", run, "--num-clusters", "3", "--keyword-method", "keybert", *options)
    assert all(part in error for part in parts)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--scheme", "vokens", "--quantizer.num-codes", "64"),
            "64 codes a level need at least as many images to learn from, found 12; choose --quantizer.num-codes 12 or "
            "less",
        ),
        (
            ("--scheme", "coarse-fine", "--coarse", "13"),
            "13 clusters need at least as many images to learn from, found 12; choose --coarse 12 or less",
        ),
        (
            ("--scheme", "string", "--per-item", "2"),
            "--per-item 2 is for the schemes structured, vokens and coarse-fine, and --scheme string has one "
            "identifier an item: leave it out",
        ),
        (
            ("--scheme", "vokens", "--global-id", "false"),
            "--global-id false leaves the cluster out of structured and numeric identifiers, and --scheme vokens has "
            "its own form: leave it out; vokens are coarse-fine without a cluster",
        ),
        (
            ("--scheme", "atomic"),
            "--scheme atomic gives every item a token of its own, and 7 images are not of the split train: no query of "
            "them trains it; add --protocol transductive, and --queries.captions all to the training",
        ),
        (
            ("--num-clusters", "3", "--per-item", "4"),
            "--per-item 4 is more than --num-clusters 3: choose it smaller",
        ),
    ],
)
def test_what_a_scheme_cannot_do_is_one_sentence(
    folders: tuple[Path, Path], error_of: Callable[..., str], options: tuple[str, ...], sentence: str
) -> None:
    data, run = folders
    assert error_of("--data", data, "--run", run, *options).splitlines()[-1].endswith(sentence)


def test_keybert_makes_the_same_identifiers_and_its_options_are_recorded(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dashes or underscores; no two words are equally similar, where KeyBERT leaves the order open."""
    data, run = folders

    def encode(texts: list[str]) -> np.ndarray:
        own = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(8, np.float32) for text in texts]
        return np.stack(own)

    monkeypatch.setattr(identifiers, "load_encoder", lambda name, device: encode)
    shared = ["--data", str(data), "--num-clusters=3", "--num-keywords=2", "--num-cluster-words=1"]
    made = {}
    for name, options in {
        "fast": [],
        "keybert": ["--keyword-method", "keybert"],
        "diverse": ["--keyword-method", "keybert", "--diversity", "0.6", "--ngram-range", "[1,2]"],
        "max_sum": ["--keyword-method=keybert", "--nr-candidates=4", "--ngram-range=[1,2]"],
    }.items():
        place = run.with_name(name)
        write_jsonl(place / "captions.jsonl", [json.loads(line) for line in (run / "captions.jsonl").open()])
        run_command(main, Settings, "identifiers", arguments=[*shared, "--run", str(place), *options])
        made[name] = [read_identifiers(place / "identifiers", direction) for direction in ("t2i", "i2t")]
    assert made["keybert"] == made["fast"] != made["diverse"] != made["max_sum"] != made["fast"]
    report = json.loads((run.with_name("diverse") / "identifiers" / "report.json").read_text())
    assert (report["keyword_method"], report["diversity"], report["ngram_range"]) == ("keybert", 0.6, [1, 2])
    settings = RunFolder(run.with_name("max_sum")).manifest()["stages"]["identifiers"]["settings"]
    assert (settings["keyword_method"], settings["nr_candidates"]) == ("keybert", 4)


def _own_run(run: Path, name: str) -> Path:
    """Return another run folder with the same captions."""
    write_jsonl(run.with_name(name) / "captions.jsonl", [json.loads(line) for line in (run / "captions.jsonl").open()])
    return run.with_name(name)


def test_keywords_are_ordered_by_mention_rate_and_the_report_says_what_it_does(folders: tuple[Path, Path]) -> None:
    """Shapes first: sentences say those, and never a colour."""
    data, run = folders
    rows = [json.loads(line) for line in (data / "metadata.jsonl").open()]
    for row in rows:
        row["sentences"][0]["text"] = f"the {row['image_id'].split('-')[1]} on grass"
    write_jsonl(data / "metadata.jsonl", rows)
    arguments = ["--data", str(data), "--num-clusters=2", "--deduplicate=false"]
    reports = {}
    for order in ("similarity", "mention_rate"):
        place = _own_run(run, order)
        run_command(main, Settings, arguments=[*arguments, "--run", str(place), "--keyword_order", order])
        reports[order] = json.loads((place / "identifiers" / "report.json").read_text())
        assert reports[order]["keyword_order"] == order
    made = read_identifiers(run.with_name("mention_rate") / "identifiers", "t2i")
    described = [row for row in made if row["split"] == "train"]
    assert all(row["lexical_id"] == row["item_id"].split("-")[::-1] for row in described)
    assert reports["mention_rate"]["mentions"]["train"]["percent_by_depth"] == {"1": 100.0, "2": 0.0}
    assert (
        reports["mention_rate"]["t2i"]["all"]["bigram_entropy"] != reports["similarity"]["t2i"]["all"]["bigram_entropy"]
    )
    table = {count.word: count.rate for count in read_mention_rates(run.with_name("mention_rate") / "identifiers")}
    assert (table["circle"], table["red"]) == (1.0, 0.0)


def test_another_order_is_another_stage(folders: tuple[Path, Path], error_of: Callable[..., str]) -> None:
    data, run = folders
    main(Settings(run=run, data=data, num_clusters=3))
    error = error_of("--run", run, "--num-clusters", "3", "--keyword-order", "similarity")
    assert "keyword_order mention_rate, not similarity" in error


def test_mention_rates_need_sentences_of_the_training_split(
    folders: tuple[Path, Path], error_of: Callable[..., str]
) -> None:
    data, run = folders
    rows = [json.loads(line) for line in (data / "metadata.jsonl").open()]
    write_jsonl(data / "metadata.jsonl", [row | {"sentences": []} if row["split"] == "train" else row for row in rows])
    options = ["--data", str(data), "--run", str(run), "--num-clusters", "3"]
    error = error_of(*options, "--keyword-choice", "mention_rate")
    assert "split train" in error and "--keyword-choice" in error and error.count("\n") == 1
    assert not (run / "identifiers").exists()
    error = error_of(*options, "--keyword-order", "mention_rate")
    assert "split train" in error and "--keyword-order" in error
    run_command(main, Settings, arguments=options)
    assert read_mention_rates(run / "identifiers") == []
    assert json.loads((run / "identifiers" / "report.json").read_text())["keyword_order"] == "similarity"


def test_numbers_leave_no_words_to_choose_or_order(folders: tuple[Path, Path]) -> None:
    """A study exchanges the scheme alone: what is asked of keywords has no say then."""
    data, run = folders
    main(Settings(run=run, data=data, num_clusters=3, scheme="numeric"))
    other = _own_run(run, "other")
    main(Settings(run=other, data=data, num_clusters=3, scheme="numeric", keyword_order="mention_rate"))
    for name in OUTPUTS:
        assert (run / "identifiers" / name).read_bytes() == (other / "identifiers" / name).read_bytes()
    assert read_mention_rates(run / "identifiers") == []


def test_numbers_instead_of_keywords(folders: tuple[Path, Path]) -> None:
    data, run = folders
    main(Settings(run=run, data=data, num_clusters=3, scheme="numeric"))
    for direction, count in (("t2i", 19), ("i2t", 20)):
        rows = read_identifiers(run / "identifiers", direction)
        assert all(re.fullmatch(r"<\|cluster_[012]\|>\d\d", row["identifier"]) for row in rows)
        assert len({row["lexical_id"][0] for row in rows}) == count
    assert "A **unique number** stands" in (run / "identifiers" / "report.md").read_text()
    assert json.loads((run / "identifiers" / "report.json").read_text())["t2i"]["all"]["num_shared_items"] == 0


def test_every_scheme_has_its_own_words_in_the_report(folders: tuple[Path, Path]) -> None:
    data, run = folders
    schemes, introductions = get_args(get_type_hints(Settings)["scheme"]), set()
    for scheme in schemes:
        own = _own_run(run, scheme)
        codes = QuantizerSettings(num_codes=4, num_levels=2)
        protocol: Any = "transductive" if scheme == "atomic" else "inductive"
        small: dict[str, Any] = {"num_clusters": 3, "coarse": 3, "branch": 2, "leaf": 3, "quantizer": codes}
        main(Settings(run=own, data=data, scheme=scheme, protocol=protocol, **small))
        introductions.add((own / "identifiers" / "report.md").read_text().split("\n\n")[1])
    assert len(introductions) == len(schemes)


def test_identifiers_without_global_ids_bring_no_cluster_tokens(folders: tuple[Path, Path]) -> None:
    data, run = folders
    main(Settings(run=run, data=data, num_clusters=3, global_id=False))
    rows = read_identifiers(run / "identifiers", "t2i")
    assert all(row["global_id"] == -1 and row["identifier"] == " ".join(row["lexical_id"]) for row in rows)
    assert read_cluster_words(run / "identifiers") == []
    report = json.loads((run / "identifiers" / "report.json").read_text())
    assert (report["num_clusters"], report["t2i"]["all"]["cluster_size"]["num_empty"]) == (3, 0)
    assert "The clusters are **left out**" in (run / "identifiers" / "report.md").read_text()


def test_kept_embeddings_make_the_same_identifiers_without_an_encoder(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = folders
    kept = run.with_name("embeddings")
    plain, first, second = (run.with_name(name) for name in ("plain", "first", "second"))
    for folder in (plain, first, second):
        write_jsonl(folder / "captions.jsonl", [json.loads(line) for line in (run / "captions.jsonl").open()])
    main(Settings(run=plain, data=data, num_clusters=3))
    main(Settings(run=first, data=data, num_clusters=3, embeddings=kept))
    monkeypatch.setattr(identifiers, "load_encoder", None)
    main(Settings(run=second, data=data, num_clusters=3, embeddings=kept))
    for name in OUTPUTS:
        assert len({(folder / "identifiers" / name).read_bytes() for folder in (plain, first, second)}) == 1


def test_few_words_found_are_one_sentence_and_may_be_taken(
    folders: tuple[Path, Path], error_of: Callable[..., str]
) -> None:
    data, run = folders
    captions = [json.loads(line) for line in (run / "captions.jsonl").open()]
    for caption in captions[:12]:
        caption["caption"] = "🐕 ❤️ !"
    write_jsonl(run / "captions.jsonl", captions)
    options = ("--data", data, "--run", run, "--num-clusters", "1", "--num-cluster-words", "1")
    error = error_of(*options)
    error = error[error.index("error: ") :]
    assert error.count("\n") == 1
    for words in ("of 19 images", "words were found in 7", "'red-circle'", "--min-with-keyword", "--segmenter"):
        assert words in error
    assert not (run / "identifiers").exists()
    run_command(main, Settings, "identifiers", arguments=[*map(str, options), "--min-with-keyword", "0"])
    assert len(read_identifiers(run / "identifiers", "t2i")) == 19


def test_a_segmenter_is_used_and_a_wrong_one_named(folders: tuple[Path, Path], error_of: Callable[..., str]) -> None:
    data, run = folders
    assert "--segmenter no_such:cut" in error_of("--data", data, "--run", run, "--segmenter", "no_such:cut")
    write_jsonl(run / "captions.jsonl", [{"image_id": "red-circle", "caption": "红色飞盘"}])
    main(Settings(run=run, data=data, num_clusters=1, segmenter="builtins:list", deduplicate=False))
    [row] = read_identifiers(run / "identifiers", "t2i")
    assert sorted(row["lexical_id"]) == sorted("红色飞盘")


@pytest.mark.skipif(not SCRIPTS.is_dir(), reason=f"the case is missing: {SCRIPTS}")
def test_the_case_of_scripts_without_spaces_gets_words_and_distinct_identifiers(tmp_path: Path) -> None:
    texts = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in sorted(SCRIPTS.glob("*.txt"))}
    rows = [
        {
            "file_name": f"images/{name}.jpg",
            "image_id": name,
            "split": "train",
            "sentences": [{"sentence_id": f"{name}-{n}", "text": line} for n, line in enumerate(lines)],
        }
        for name, lines in texts.items()
    ]
    write_jsonl(tmp_path / "DATA" / "metadata.jsonl", rows)
    captions = ({"image_id": name, "caption": lines[-1]} for name, lines in texts.items())
    write_jsonl(tmp_path / "RUN" / "captions.jsonl", captions)
    main(Settings(run=tmp_path / "RUN", data=tmp_path / "DATA", num_clusters=4, num_keywords=20))
    identifiers = read_identifiers(tmp_path / "RUN" / "identifiers", "t2i")
    assert len({row["identifier"] for row in identifiers}) == len(texts) == 24
    sentences = read_identifiers(tmp_path / "RUN" / "identifiers", "i2t")
    words = {word for row in [*identifiers, *sentences] for word in row["lexical_id"]}
    words |= {word for cluster in read_cluster_words(tmp_path / "RUN" / "identifiers") for word in cluster}
    assert {"飞盘", "沙堡", "公园", "蔬菜"} <= words
    assert max(map(len, words)) <= 3  # "12号"

"""Pages of the documentation, followed: what they say to type is typed, one block after the other, on tiny inputs.

What is typed stays as it is; behind it come options that make the work small. Blocks that are marked (a GPU, the
network, minutes) are left out; `tests/docs/test_pages.py` parses these too.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from semcore.data.dataset import load_dataset
from semcore.runtime.files import write_json, write_jsonl
from semcore.runtime.packaged_files import asset_folder
from tests.conftest import COLOURS, draw_picture
from tests.docs.pages import PAGES, ROOT, blocks_of
from tests.growing_runs import count_letters
from tests.printed_commands import commands_of, execute
from tests.run_fixtures import NUM_CLUSTERS, SearchableRun
from tests.semcore.evaluation.test_dense_baselines import make_dual_encoder
from tests.semcore.verification.test_pair_verifiers import make_itm

README = ROOT / "README.md"
TRAINING = ["--training.max-steps", "2", "--training.batch-size", "4", "--training.gradient-checkpointing", "false"]
CODES = ["--quantizer.num-codes", "4", "--quantizer.num-steps", "5"]
SMALLER = {
    "data_prep.identifiers": ["--num-clusters", "2", "--num-cluster-words", "1"],
    "vokens": ["--quantizer.num-codes", "8"],
    "recipes/train_identifier.py": [*TRAINING, "--row-tokens", "96"],
    "data_prep.candidates": ["--num-candidates", "3", "--num-beams", "4", "--limit", "4"],
    "recipes/train_verifier.py": TRAINING,
    "data_prep.identifiers recipes/configs/scenes_avg.yaml": CODES,
    "data_prep.identifiers recipes/configs/scenes_comgtir.yaml": CODES,
    "data_prep.identifiers recipes/configs/scenes_cart.yaml": [*CODES, "--coarse", "2"],
    "recipes/train_ranking.py": [*TRAINING, "--ranking.num-beams", "3"],
    "evaluate": [
        "--num-beams", "4", "--num-candidates", "3", "--limit", "4", "--num-val-queries", "2",
        "--num-order-queries", "0", "--ablations", "false",
    ],
}  # fmt: skip
LONG = (
    "guide_and_rerank.md", "other_systems.md", "own_pictures.md", "search_page.md", "serve.md", "studies.md",
    "train_verifier.md",
)  # fmt: skip
FOLLOWED = [
    page
    for page in (*PAGES, README)
    if any(block.language in ("sh", "python") and not block.mark for block in blocks_of(page))
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_training: SearchableRun) -> Path:
    """A folder with what the pages begin with: photographs, tables about them, and runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semcore.identifiers.sentence_encoder.load_encoder", lambda name, device: count_letters)
    for name in ("recipes", "ds_configs", "prompts"):
        Path(name).symlink_to(ROOT / name)
    _take_photographs()
    for name in ("runs/quickstart", "RUN"):
        shutil.copytree(finished_training.run, name)
    shutil.rmtree("RUN/verifier_model")
    images = load_dataset(finished_training.data).images
    captions = ({"image_id": own.image_id, "caption": own.sentences[0].text} for own in images)
    Path("runs/vokens").mkdir()
    write_jsonl(Path("runs/vokens/captions.jsonl"), captions)
    write_json(Path("RUN/identifiers/cluster_words.json"), {"clusters": [{"words": []}] * NUM_CLUSTERS})
    return tmp_path


def _take_photographs() -> None:
    for split, many in (("train", 10), ("val", 4), ("test", 4)):
        for number in range(many):
            colour = COLOURS[number % len(COLOURS)]
            photo = Path("photos") / split / f"{number}.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            draw_picture(colour, number).save(photo)
            photo.with_suffix(".txt").write_text(f"a {colour} circle on white\ncircle number {number}\n")
    draw_picture("red", 3).convert("RGB").save("photo.jpg")
    Path("new-photos").mkdir()
    for number, name in enumerate(("beach", "dog")):
        draw_picture("green", number).convert("RGB").save(f"new-photos/{name}.jpg")
    rows = [f"train/{number}.png,circle number {number}\n" for number in range(10)]
    Path("captions.csv").write_text("image,sentence\n" + "".join(rows))
    shutil.copytree("photos/train", "flickr30k-images")
    said = [{"filename": f"{n}.png", "split": "train", "sentences": [{"raw": f"circle {n}"}]} for n in range(10)]
    Path("dataset_flickr30k.json").write_text(json.dumps({"images": said}))


def _make_it_grow(monkeypatch: pytest.MonkeyPatch, run: SearchableRun) -> None:
    """Put a run in place whose identifiers were made from captions."""
    monkeypatch.setattr("semcore.retrieval.item_maker.load_encoder", lambda name, device: count_letters)
    shutil.rmtree("runs/quickstart")
    shutil.copytree(run.run, "runs/quickstart")


def _serve(words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a server beside the test, on a free port in place of its own, and wait until it says where it searches."""
    library = {"serve": "fastapi", "demo": "gradio"}[words[1]]
    pytest.importorskip(library, reason=f"the extra {words[1]} is not installed")
    command = [sys.executable, "-m", "semcore.commands.cli", *words[1:], "--port", str(_free_port())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    assert any("http://" in line for line in server.stdout), f"{shlex.join(words)} has ended"
    return server


def _fetch(words: Sequence[str]) -> str:
    own = [word.replace(":8000", f":{_free_port()}") for word in words]
    return subprocess.run(own, capture_output=True, text=True, check=True, timeout=300).stdout


@cache
def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fill_in_captions(monkeypatch: pytest.MonkeyPatch, run: SearchableRun) -> None:
    """Put a run in place that has captions, and no verifier of its own."""
    monkeypatch.setattr("semcore.retrieval.dense.load_encoder", lambda name, device: count_letters)
    shutil.rmtree("RUN")
    shutil.copytree(run.run, "RUN", ignore=shutil.ignore_patterns("verifier_model"))


def _measure_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs/one", "runs/other"):
        shutil.copytree("runs/quickstart", name)
        assert execute(["semcore", "evaluate", "--run", name, *SMALLER["evaluate"]], monkeypatch) == 0


def _name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _smaller(words: Sequence[str]) -> list[str]:
    """Return the options of all entries whose words are among these."""
    return [word for names, options in SMALLER.items() if {*names.split()} <= {*words} for word in options]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page.name in LONG), id=_name_of(page)) for page in FOLLOWED]
)
def test_a_page_can_be_followed(
    page: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    finished_training: SearchableRun,
) -> None:
    run = finished_training
    text = page.read_text(encoding="utf-8")
    if "semcore index add" in text:
        _make_it_grow(monkeypatch, request.getfixturevalue("finished_growing_run"))
    if "--guide.kind" in text:
        _fill_in_captions(monkeypatch, request.getfixturevalue("finished_growing_run"))
    if "runs/one" in text:
        _measure_two_runs(monkeypatch)
    if re.search(r"^accelerate .*train_identifier.py .*--run RUN$", text, flags=re.MULTILINE):
        shutil.rmtree("RUN/identifier_model")
    values: dict[str, object] = {"CHECKPOINT": asset_folder("scenes_base"), "DATA": run.data}
    if "CLIP" in text:
        values |= {"CLIP": make_dual_encoder("clip", place / "clip"), "BLIP": make_itm(place / "blip")}
    names: dict[str, object] = {}
    for block in blocks_of(page):
        if block.mark:
            continue
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
        for line in block.commands if block.language == "sh" else []:
            for words in commands_of(line.partition("  #")[0], **values):
                if words[:2] in (["semcore", "serve"], ["semcore", "demo"]):
                    request.addfinalizer(_serve(words).terminate)
                elif words[0] == "curl":
                    assert json.loads(_fetch(words)), f"{block}: {shlex.join(words)}"
                else:
                    code = execute([*words, *_smaller(words)], monkeypatch)
                    printed = capsys.readouterr()
                    assert code == 0, f"{block}: {shlex.join(words)}\n{printed.out}{printed.err}"

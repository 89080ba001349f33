"""The wheel brings everything: it is built, installed beside the dependencies, and used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    """Run a command in a folder that is not the source tree and return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the wheel alone; it sees the libraries of this one, but not its semcore."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("semcore-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A folder named in a .pth file is searched, but its own .pth files, such as our editable install's, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


def test_the_wheel_holds_what_users_edit_and_the_base_checkpoint(installed: Path, tmp_path: Path) -> None:
    package = Path(run(installed / "python", "-c", "import semcore; print(semcore.__path__[0])", cwd=tmp_path).strip())
    assert package.is_relative_to(installed.parent)
    for name in ("prompts", "recipes", "ds_configs", "assets"):
        expected = files_of(ROOT / name if (ROOT / name).is_dir() else ROOT / "semcore" / name)
        assert expected
        assert files_of(package / name) == expected


def files_of(folder: Path) -> set[Path]:
    """Return every file below a folder, relative to it, without what Python compiled."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in files if "__pycache__" not in path.parts}


def test_semcore_env_runs(installed: Path, tmp_path: Path) -> None:
    facts = json.loads(run(installed / "semcore", "env", "--json", cwd=tmp_path))
    assert facts["git"] is None
    assert "the base checkpoint" not in [part["what"] for part in facts["missing"]]


def test_the_tested_versions_travel_along(installed: Path, tmp_path: Path) -> None:
    code = "from semcore.runtime import packaged_files as r; print(r.pinned_versions_file())"
    found = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip())
    assert found.is_relative_to(installed.parent)
    assert found.read_text() == (ROOT / "requirements" / "tested.txt").read_text()


def test_semcore_init_copies_what_users_edit(installed: Path, tmp_path: Path) -> None:
    run(installed / "semcore", "init", "mine", cwd=tmp_path)
    for name in ("prompts", "recipes", "ds_configs"):
        assert files_of(tmp_path / "mine" / name) == files_of(ROOT / name)


def test_data_prep_runs(installed: Path, tmp_path: Path) -> None:
    run(
        installed / "python", "-m", "data_prep.make_scenes", "--out", "data", "--train", 6, "--val", 2, "--test", 2,
        cwd=tmp_path,
    )  # fmt: skip
    assert len((tmp_path / "data" / "metadata.jsonl").read_text().splitlines()) == 10
    run(installed / "python", "-m", "data_prep.check", "data", cwd=tmp_path)


def test_a_recipe_runs_from_the_package(installed: Path, tmp_path: Path) -> None:
    package = run(installed / "python", "-c", "import semcore; print(semcore.__path__[0])", cwd=tmp_path).strip()
    recipe = Path(package) / "recipes" / "train_identifier.py"
    assert "--training.max-steps" in run(installed / "python", recipe, "--help", cwd=tmp_path)


def test_every_import_runs(installed: Path, tmp_path: Path) -> None:
    """From files as users have them: a table, a tree of photos, a Karpathy file, a WebDataset shard."""
    (tmp_path / "photos").mkdir()
    for number in range(10):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "table.csv").write_text("image,sentence\n" + "".join(f"{n}.png,number {n}\n" for n in range(10)))
    said = [{"filename": f"{n}.png", "split": "train", "sentences": [{"raw": f"number {n}"}]} for n in range(10)]
    (tmp_path / "captions.json").write_text(json.dumps({"images": said}))
    with tarfile.open(tmp_path / "train-0.tar", "w") as shard:
        for number in range(10):
            (tmp_path / f"{number}.txt").write_text(f"number {number}")
            shard.add(tmp_path / "photos" / f"{number}.png", f"{number}.png")
            shard.add(tmp_path / f"{number}.txt", f"{number}.txt")
    for name, *arguments in (
        ("csv", "--csv", "table.csv", "--images", "photos"),
        ("karpathy", "--json", "captions.json", "--images", "photos"),
        ("imagefolder", "--images", "photos"),
        ("hub", "--files", "train-0.tar"),
    ):
        made = run(installed / "python", "-m", f"data_prep.from_{name}", *arguments, "--out", name, cwd=tmp_path)
        assert f"{name}: 10 images" in made


def test_checkpoints_are_converted_planned_trained_and_merged(installed: Path, tmp_path: Path) -> None:
    """From an original folder to a native one; from the base checkpoint to a generator, a search and a whole model."""
    python, semcore, where = installed / "python", installed / "semcore", ("--data", "data", "--run", "run")
    package = Path(run(python, "-c", "import semcore; print(semcore.__path__[0])", cwd=tmp_path).strip())
    recipes, base = package / "recipes", package / "assets" / "scenes_base"
    run(semcore, "convert-checkpoint", ROOT / "tests/semcore/models/conversion/fixtures/qwen2", "native", cwd=tmp_path)
    for config, model in (("scenes", ("--model", "native")), ("flickr30k_internvl2_5-1b_full", ())):
        told = run(semcore, "plan", "--config", recipes / "configs" / f"{config}.yaml", *model, cwd=tmp_path)
        assert "train_verifier" in told
    sizes = ("--train", 6, "--val", 2, "--test", 2)
    run(python, "-m", "data_prep.make_scenes", "--out", "data", *sizes, cwd=tmp_path)
    run(python, "-m", "data_prep.caption", *where, "--model", base, "--max-new-tokens", 8, cwd=tmp_path)
    run(python, "-m", "data_prep.identifiers", *where, "--num-clusters", 2, cwd=tmp_path)
    steps = ("--model.base", base, "--training.max-steps", 1, "--training.batch-size", 2, "--lora.rank", 2)
    run(python, recipes / "train_identifier.py", *where, *steps, cwd=tmp_path)
    hits = run(semcore, "search", "--run", "run", "a red circle", "--json", cwd=tmp_path).splitlines()
    assert len(hits) == 10 and "identifier" in json.loads(hits[0])
    run(semcore, "merge-adapter", "run/identifier_model", "merged", cwd=tmp_path)
    assert (tmp_path / "merged" / "config.json").exists()

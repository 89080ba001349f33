"""The wheel brings everything: it is built, installed beside the dependencies, and used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

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
    for name in ("prompts", "recipes", "ds_configs", "assets/scenes_base"):
        expected = {path.relative_to(ROOT / name) for path in source_files(name)}
        found = {path.relative_to(package / name) for path in (package / name).rglob("*") if path.is_file()}
        assert expected
        assert found == expected


def source_files(name: str) -> list[Path]:
    """Return the files of a folder of the source tree, wherever in it the folder is."""
    folder = ROOT / name if (ROOT / name).is_dir() else ROOT / "semcore" / name
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_semcore_env_runs(installed: Path, tmp_path: Path) -> None:
    facts = json.loads(run(installed / "semcore", "env", "--json", cwd=tmp_path))
    assert facts["git"] is None
    assert "the base checkpoint" not in [part["what"] for part in facts["missing"]]


def test_semcore_init_copies_what_users_edit(installed: Path, tmp_path: Path) -> None:
    run(installed / "semcore", "init", "mine", cwd=tmp_path)
    for name in ("prompts", "recipes", "ds_configs"):
        copied = {path.relative_to(tmp_path / "mine") for path in (tmp_path / "mine" / name).rglob("*")}
        assert {path.relative_to(ROOT) for path in source_files(name)} <= copied


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
    assert "--training.max_steps" in run(installed / "python", recipe, "--help", cwd=tmp_path)

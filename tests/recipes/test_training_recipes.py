"""The two training recipes, in this process: a whole small training, `--check`, and what users get wrong."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from semcore.commands.arguments import parse
from semcore.data.identifier_files import NO_CLUSTER, make_row
from semcore.models.checkpoint import load_checkpoint
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl, write_json, write_jsonl
from semcore.verification import read_attention
from semcore.verification.block_layout import training_section
from tests.recipes.conftest import new_run

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
QUICK = (
    "--training.max-steps", "3", "--training.num-epochs", "5", "--training.batch-size", "4",
    "--training.gradient-checkpointing", "false",
)  # fmt: skip


def load_recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_recipe(name: str, *arguments: object) -> None:
    recipe = load_recipe(name)
    recipe.main(parse(recipe.Settings, [str(argument) for argument in arguments], name))


@pytest.fixture
def run(tiny_dataset, tmp_path) -> Path:
    """A run folder with identifiers."""
    return new_run(tmp_path / "run", tiny_dataset)


@pytest.fixture
def train(run, tiny_dataset, tiny_checkpoint_folder):
    def call(name: str, *options: object) -> None:
        base = ("--model.base", tiny_checkpoint_folder) if name == "train_identifier" else ()
        run_recipe(name, "--data", tiny_dataset, "--run", run, *base, *QUICK, *options)

    return call


def write_candidates(run: Path) -> None:
    row = {"direction": "t2i", "query_id": "tiny-0-0", "query": "a red circle", "candidates": ["tiny-0", "tiny-1"]}
    other = {"direction": "i2t", "query_id": "tiny-1", "query": "tiny-1", "candidates": ["tiny-0-1", "tiny-1-0"]}
    write_jsonl(run / "candidates" / "t2i.jsonl", [{**row, "right": "tiny-0"}])
    write_jsonl(run / "candidates" / "i2t.jsonl", [{**other, "right": "tiny-1-0"}])


def stage(run: Path, name: str) -> dict:
    return read_json(run / "manifest.json")["stages"][name]


def test_both_trainings_one_after_the_other(train, run, capsys):
    train("train_identifier")
    output = capsys.readouterr().out
    assert "train_identifier: 3 pairs t2i, 6 pairs i2t, 3 steps" in output
    assert output.endswith(f"next: python -m data_prep.candidates --data {run.parent / 'tiny_dataset'} --run {run}\n")
    entry = stage(run, "train_identifier")
    assert entry["finished"]
    assert entry["steps"] == 3
    assert entry["loss_first"] > 0
    assert set(read_json(run / "identifier_model" / "prompts.json")) == {"identify_t2i.jinja", "identify_i2t.jinja"}
    assert len(read_json(run / "candidates" / "held_out.json")["t2i"]) == 3
    assert "<|cluster_1|>" in load_checkpoint(run / "identifier_model").tokenizer.get_vocab()

    write_candidates(run)
    train("train_verifier")
    assert capsys.readouterr().out.endswith(f"--run {run}\n")
    assert stage(run, "train_verifier")["steps"] == 2
    assert load_checkpoint(run / "verifier_model").model is not None

    card, before = run / "verifier_model" / "README.md", (run / "verifier_model" / "README.md").read_text()
    card.unlink()  # as a kill right behind the training leaves it
    train("train_verifier")
    assert capsys.readouterr().out == f"train_verifier: already trained, see {run / 'verifier_model'}\n"
    assert card.read_text() == before
    written = card.stat().st_mtime_ns
    train("train_verifier")
    assert card.stat().st_mtime_ns == written


def test_sentences_alone_are_trained_on_without_any_image(train, run, tiny_dataset, capsys):
    shutil.rmtree(tiny_dataset / "images")
    (run / "identifiers" / "i2t.jsonl").unlink()
    train("train_identifier", "--directions", "[t2i]")
    assert "3 pairs t2i, 0 pairs i2t" in capsys.readouterr().out
    assert set(read_json(run / "identifier_model" / "prompts.json")) == {"identify_t2i.jinja"}
    lineage = read_json(run / "identifier_model" / "lineage.json")
    assert (lineage["directions"], list(lineage["identifiers"])) == (["t2i"], ["t2i.jsonl"])
    assert list(read_json(run / "candidates" / "held_out.json")) == ["t2i"]
    assert "| directions | t2i |" in (run / "identifier_model" / "README.md").read_text()


def test_a_verifier_is_trained_for_the_directions_that_have_candidates(train, run, tiny_checkpoint_folder, capsys):
    write_candidates(run)
    train("train_verifier", "--model.base", tiny_checkpoint_folder, "--directions", "[i2t]", "--check")
    assert "train_verifier: 1 sets of candidates" in capsys.readouterr().out
    (run / "candidates" / "i2t.jsonl").unlink()
    with pytest.raises(UserError, match="no candidates i2t in .*data_prep.candidates --run"):
        train("train_verifier", "--model.base", tiny_checkpoint_folder, "--directions", "[i2t,t2i]")
    train("train_verifier", "--model.base", tiny_checkpoint_folder)
    assert read_json(run / "verifier_model" / "lineage.json")["directions"] == ["t2i"]
    assert set(read_json(run / "verifier_model" / "prompts.json")) == {"verify_t2i.jinja"}


def test_a_vision_tower_learns_nothing_from_sentences(train):
    with pytest.raises(UserError, match=r"--directions \[t2i\].*--model.freeze-vision"):
        train("train_identifier", "--directions", "[t2i]", "--model.freeze-vision", "false")


def test_a_verifier_in_candidate_blocks_stands_beside_the_first(train, run, tiny_checkpoint_folder, capsys):
    write_candidates(run)
    for attention in ("full", "blocks"):
        train("train_verifier", "--model.base", tiny_checkpoint_folder, "--attention", attention)
    assert stage(run, "train_verifier")["settings"]["attention"] == "full"
    assert stage(run, "train_verifier_blocks")["steps"] == 2
    assert read_attention(run / "verifier_model") == "full"
    assert read_attention(run / "verifier_model_blocks") == "blocks"
    capsys.readouterr()
    train("train_verifier", "--model.base", tiny_checkpoint_folder, "--attention", "blocks")
    assert capsys.readouterr().out == f"train_verifier: already trained, see {run / 'verifier_model_blocks'}\n"


def test_the_config_that_a_run_recorded_repeats_both_its_verifiers(train, run, tiny_checkpoint_folder, capsys):
    """Each training finds the settings it was begun with, so that nothing is left to do."""
    write_candidates(run)
    for attention, steps in (("full", 3), ("blocks", 2)):
        train("train_verifier", "--model.base", tiny_checkpoint_folder, "--attention", attention,
              "--training.max-steps", steps)  # fmt: skip
    again = ["--run", str(run), "--config", str(run / "config.yaml")]
    for more in ([], ["--attention", "full"], ["--attention=blocks"], ["--attention", "blocks"]):
        capsys.readouterr()
        recipe, arguments = load_recipe("train_verifier"), [*again, *more]
        recipe.main(parse(recipe.Settings, arguments, training_section(arguments)))
        assert "already trained" in capsys.readouterr().out


def test_a_file_without_a_section_for_blocks_configures_both_verifiers(tmp_path):
    (tmp_path / "plain.yaml").write_text("train_verifier:\n  extra_questions: 2\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name in ("plain", "broken", "missing"):
        arguments = ["--attention", "blocks", "--config", str(tmp_path / f"{name}.yaml")]
        assert training_section(arguments) == "train_verifier"


def test_an_attention_that_is_not_known(run):
    with pytest.raises(UserError, match=r"attention.*wide"):
        run_recipe("train_verifier", "--run", run, "--attention", "wide")


def test_blocks_that_the_prompts_do_not_allow(train, run, tiny_checkpoint_folder, tmp_path, monkeypatch):
    write_candidates(run)
    prompts = shutil.copytree(RECIPES.parent / "prompts", tmp_path / "mine" / "prompts")
    asked_first = "Sentence: {{ query }}\n" + (prompts / "verify_t2i.jinja").read_text().replace("{{ query }}", "above")
    (prompts / "verify_t2i.jinja").write_text(asked_first)
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(UserError, match="what is asked has to come after them; .* use --attention full"):
        train("train_verifier", "--model.base", tiny_checkpoint_folder, "--attention", "blocks", "--check")


def test_identifiers_without_global_ids_need_no_new_tokens(train, run, tiny_checkpoint_folder):
    for direction in ("t2i", "i2t"):
        rows = read_jsonl(run / "identifiers" / f"{direction}.jsonl")
        bare = [make_row(row["item_id"], row["split"], NO_CLUSTER, row["lexical_id"]) for row in rows]
        bare[0] = {**bare[0], "lexical_id": [], "identifier": ""}  # no keyword left
        write_jsonl(run / "identifiers" / f"{direction}.jsonl", bare)
    write_json(run / "identifiers" / "cluster_words.json", {"clusters": []})
    train("train_identifier")
    before, after = (load_checkpoint(path).tokenizer for path in (tiny_checkpoint_folder, run / "identifier_model"))
    assert len(after) == len(before)


def test_the_verifier_may_start_from_the_identifier_model(train, run, capsys):
    train("train_identifier")
    write_candidates(run)
    train("train_verifier", "--model.start", "identifier")
    assert f"the model, from {run / 'identifier_model'}" in capsys.readouterr().out
    assert "<|cluster_1|>" in load_checkpoint(run / "verifier_model").tokenizer.get_vocab()


def test_check_reads_everything_and_writes_nothing(train, run, capsys):
    before = sorted(path.name for path in run.rglob("*"))
    train("train_identifier", "--check")
    assert capsys.readouterr().out.endswith("train_identifier: everything is in order\n")
    assert sorted(path.name for path in run.rglob("*") if path.name != ".lock") == before


def test_a_projector_can_be_trained_on_pixels(train, run):
    train("train_identifier", "--model.freeze-projector", "false")
    assert stage(run, "train_identifier")["finished"]


def test_settings_that_exclude_each_other(train):
    with pytest.raises(UserError, match="--lora.rank .*--model.freeze-vision"):
        train("train_identifier", "--lora.rank", 4, "--model.freeze-vision", "false")


def test_other_settings_are_noticed(train, run):
    train("train_identifier")
    with pytest.raises(UserError, match="training.learning_rate 4e-05, not 0.001; .*--run"):
        train("train_identifier", "--training.learning-rate", 1e-3)


def test_a_verifier_without_what_it_needs(train, run):
    train("train_identifier")
    with pytest.raises(UserError, match=r"no candidates in .*`python -m data_prep.candidates --run "):
        train("train_verifier")


def test_identifiers_that_are_not_there(train, run):
    (run / "identifiers" / "i2t.jsonl").unlink()
    with pytest.raises(UserError, match=r"there is no .*i2t.jsonl.*`python -m data_prep.identifiers --run "):
        train("train_identifier")


def test_a_base_that_is_not_there(run, tiny_dataset):
    with pytest.raises(UserError, match="no checkpoint folder ./nowhere"):
        run_recipe("train_identifier", "--data", tiny_dataset, "--run", run, "--model.base", "./nowhere")


def test_the_scenes_configuration_is_read(train, run, capsys):
    train("train_identifier", "--config", RECIPES / "configs" / "scenes.yaml")
    settings = stage(run, "train_identifier")["settings"]
    assert settings["training"]["learning_rate"] > 1e-4
    assert settings["training"]["max_steps"] == 3


def test_a_verifier_without_a_given_start(train, run, tiny_checkpoint_folder, capsys):
    write_candidates(run)
    with pytest.raises(UserError, match="no identifier model.*--model.base"):
        train("train_verifier")
    train("train_verifier", "--model.base", tiny_checkpoint_folder, "--check")
    assert f"the model, from {tiny_checkpoint_folder}" in capsys.readouterr().out


@pytest.mark.parametrize("keep", ["true", "false"])
def test_a_image_cut_short_after_captioning_is_counted_and_said(train, run, tiny_dataset, capsys, keep):
    """It has an identifier, so it was readable; its pairs are lost, and the training goes on without them."""
    picture = tiny_dataset / "images" / "tiny-0.png"
    picture.write_bytes(picture.read_bytes()[:-40])
    train("train_identifier", "--keep-features", keep)
    output = capsys.readouterr().out
    assert "1 of 3 training images cannot be read now" in output
    assert "2 sentences" in output
    assert str(picture) in output
    assert "3 pairs t2i, 4 pairs i2t" in output
    assert stage(run, "train_identifier")["num_unreadable_images"] == 1
    write_candidates(run)
    train("train_verifier", "--keep-features", keep, "--check")
    assert "2 sets of candidates, 1 of them left out for want of a readable image" in capsys.readouterr().out

"""Lineage is compared wherever a model is loaded: a mismatch is refused with both sides, unless the flag allows it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import candidates, caption
from semcore import Retriever
from semcore.commands.evaluate import EvaluateSettings
from semcore.commands.evaluate import main as evaluate
from semcore.data.dataset import load_dataset
from semcore.data.run_folder import RunFolder
from semcore.models.adapters import base_of, read_note
from semcore.models.checkpoint import load_checkpoint
from semcore.models.lineage import KINDS, made_from, write_lineage
from semcore.models.run_lineage import prompts_of
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl, write_json, write_jsonl
from semcore.runtime.fingerprints import fingerprint
from semcore.verification.score_fusion import FusionSettings, write_fusion_settings
from tests.recipes.test_training_recipes import run_recipe
from tests.run_fixtures import SearchableRun
from tests.semcore.models.test_merge_adapter import make_adapter

ROOT = Path(__file__).resolve().parents[3]
CPU = {"dtype": "float32", "device": "cpu"}
FEW = {"ablations": False, "limit": 2, "num_val_queries": 2, "num_order_queries": 0, "num_beams": 4, **CPU}


@pytest.fixture
def own_run(searchable_run, tmp_path) -> SearchableRun:
    """A run whose dataset and base a test may change too; its generator is an adapter on the base."""
    data, base = (shutil.copytree(path, tmp_path / path.name) for path in (searchable_run.data, searchable_run.base))
    run = RunFolder(searchable_run.run)
    shutil.rmtree(run / "identifier_model")
    make_adapter(base, run / "identifier_model")
    write_json(run / "identifier_model" / "prompts.json", prompts_of(["generator"]))
    write_lineage(run / "identifier_model", made_from(run, load_dataset(data)))
    manifest = run.manifest()
    manifest["data"] = str(data)
    manifest["stages"]["caption"]["settings"]["model"] = str(base)
    manifest["stages"]["train_identifier"]["settings"]["model"]["base"] = str(base)
    for stage in manifest["stages"].values():
        stage["run"] = str(run.path)
    manifest["stages"]["evaluate"] = {
        "settings": {}, "inputs": {"the generator model": fingerprint(run / "identifier_model")}, "by_content": {},
        "run": str(run.path), "finished": False,
    }  # fmt: skip
    write_json(run / "manifest.json", manifest)
    return SearchableRun(data, run.path, base)


def change_prompts(own: SearchableRun, monkeypatch) -> None:
    mine = own.run.parent / "mine"
    shutil.copytree(ROOT / "prompts", mine / "prompts")
    with (mine / "prompts" / "identify_t2i.jinja").open("a") as file:
        file.write(" Please.")
    monkeypatch.chdir(mine)


def rotate(own: SearchableRun, *splits: str) -> None:
    path = own.run / "identifiers" / "t2i.jsonl"
    rows = list(read_jsonl(path))
    chosen = [number for number, row in enumerate(rows) if row["split"] in splits]
    given = [{name: rows[n][name] for name in ("global_id", "lexical_id", "identifier")} for n in chosen]
    for number, identifier in zip(chosen, given[1:] + given[:1], strict=True):
        rows[number] |= identifier
    write_jsonl(path, rows)


def add_to(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "do_normalize": False, "model_max_length": 7}))


def change_data(own: SearchableRun, _) -> None:
    rows = list(read_jsonl(own.data / "metadata.jsonl"))
    rows[0]["sentences"][0]["text"] = "something else"
    write_jsonl(own.data / "metadata.jsonl", rows)


def retrain_after_weighing(own: SearchableRun, _) -> None:
    write_fusion_settings(own.run / "verification.json", FusionSettings("none", {"none": {}}))
    add_to(own.run / "identifier_model" / "adapter_config.json")


CHANGES: dict[str, tuple[str, Callable[[SearchableRun, pytest.MonkeyPatch], object]]] = {
    "prompts": ("prompts", change_prompts),
    "training rows": ("identifiers", lambda own, _: rotate(own, "train")),
    "test rows": ("identifiers", lambda own, _: rotate(own, "test")),
    "data": ("data", change_data),
    "base": ("base,captioner", lambda own, _: add_to(own.base / "config.json")),
    "tokenizer": ("tokenizer", lambda own, _: add_to(own.run / "identifier_model" / "tokenizer_config.json")),
    "chat": (
        "tokenizer", lambda own, _: (own.run / "identifier_model" / "chat_template.jinja").open("a").write(" "),
    ),
    "images": (
        "preprocessing", lambda own, _: add_to(own.run / "identifier_model" / "preprocessor_config.json"),
    ),
    "evaluation": ("evaluation", retrain_after_weighing),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_search_says_both_sides_and_goes_on_where_it_is_told_to(own_run, monkeypatch, name):
    kinds, change = CHANGES[name]
    search = {"data": own_run.data, "split": "test", "verifier": "likelihood" if name == "base" else "none", **CPU}
    assert Retriever.from_run(own_run.run, **search).mismatches == []
    change(own_run, monkeypatch)
    with pytest.raises(UserError) as error:
        Retriever.from_run(own_run.run, **search)
    assert str(error.value).endswith(f"--allow-mismatch {kinds}")
    retriever = Retriever.from_run(own_run.run, allow_mismatch=kinds.split(","), **search)
    assert {mismatch.kind for mismatch in retriever.mismatches} == set(kinds.split(","))
    for mismatch in retriever.mismatches:
        assert mismatch.made_with != mismatch.found
        assert mismatch.made_with[:12] in str(error.value) and mismatch.found[:12] in str(error.value)
    assert retriever.search(text="a red circle", top_k=2)


def test_prompts_that_an_older_folder_lacks_are_those_that_the_model_was_trained_with(own_run, monkeypatch):
    """And once the folder has its own, the model meets that."""
    mine = own_run.run.parent / "mine"
    shutil.copytree(ROOT / "prompts", mine / "prompts", ignore=shutil.ignore_patterns("identify_*"))
    monkeypatch.chdir(mine)
    search = {"data": own_run.data, "split": "test", "verifier": "none", **CPU}
    assert Retriever.from_run(own_run.run, **search).mismatches == []
    own = (ROOT / "prompts" / "identify_t2i.jinja").read_text()
    (mine / "prompts" / "identify_t2i.jinja").write_text(f"{own} Please.")
    with pytest.raises(UserError, match=r"identify_t2i.jinja.*--allow-mismatch prompts$"):
        Retriever.from_run(own_run.run, **search)


def test_what_came_later_is_no_mismatch(own_run):
    """Rows behind the known ones of their split, an image of the dataset with them."""
    picture = own_run.data / "images" / "later.png"
    shutil.copyfile(next((own_run.data / "images").iterdir()), picture)
    later = {"file_name": "images/later.png", "image_id": "later", "split": "test"}
    with (own_run.data / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({**later, "sentences": [{"sentence_id": "later-0", "text": "a dog"}]}) + "\n")
    for direction, item_id in (("t2i", "later"), ("i2t", "later-0")):
        row = {"item_id": item_id, "split": "test", "global_id": 1, "lexical_id": ["dog"]}
        with (own_run.run / "identifiers" / f"{direction}.jsonl").open("a") as file:
            file.write(json.dumps({**row, "identifier": "<|cluster_1|>dog"}) + "\n")
    retriever = Retriever.from_run(own_run.run, data=own_run.data, split="test", verifier="none", **CPU)
    assert retriever.mismatches == []
    assert "later" in [hit.item_id for hit in retriever.search(text="a dog", top_k=20)]


def test_an_item_that_went_is_a_mismatch(own_run):
    path = own_run.run / "identifiers" / "t2i.jsonl"
    write_jsonl(path, list(read_jsonl(path))[1:])
    with pytest.raises(UserError, match=r"11 of its 12 rows of the split train.*--allow-mismatch identifiers$"):
        Retriever.from_run(own_run.run, data=own_run.data, verifier="none", **CPU)


def test_a_run_without_a_record_says_what_is_missing(own_run):
    """As an earlier version left it: the prompts were recorded, and nobody looked."""
    (own_run.run / "identifier_model" / "lineage.json").unlink()
    kinds = ["identifiers", "data", "tokenizer", "preprocessing"]
    with pytest.raises(UserError) as error:
        Retriever.from_run(own_run.run, data=own_run.data, verifier="none", **CPU)
    assert all(f"does not say which {kind} it was made with" in str(error.value) for kind in kinds)
    assert str(error.value).endswith(f"--allow-mismatch {','.join(kinds)}")
    assert Retriever.from_run(own_run.run, data=own_run.data, verifier="none", allow_mismatch=kinds, **CPU).mismatches


def test_a_kind_that_there_is_not(own_run):
    with pytest.raises(UserError, match=f"--allow-mismatch takes {', '.join(KINDS)}.*'prompt'"):
        Retriever.from_run(own_run.run, data=own_run.data, verifier="none", allow_mismatch=["prompt"], **CPU)


def test_an_evaluation_that_goes_on_says_so_in_its_files(own_run):
    rotate(own_run, "test")
    options = {"data": own_run.data, "verifier": "none", **FEW}
    (own_run.run / "manifest.json").write_text(json.dumps(without_evaluation(own_run.run)))
    with pytest.raises(UserError, match="--allow-mismatch identifiers$"):
        evaluate(EvaluateSettings(run=own_run.run, **options))
    evaluate(EvaluateSettings(run=own_run.run, allow_mismatch="identifiers", **options))
    (row,) = read_json(own_run.run / "metrics.json")["allowed_mismatches"]
    assert (row["kind"], row["model"]) == ("identifiers", str(own_run.run / "identifier_model"))
    for report in ("report.md", "report.html"):
        text = (own_run.run / report).read_text()
        assert row["made_with"][:12] in text and row["found"][:12] in text


def without_evaluation(run: Path) -> dict:
    manifest = read_json(run / "manifest.json")
    del manifest["stages"]["evaluate"]
    return manifest


def test_every_verifier_is_compared(own_run):
    add_to(own_run.run / "verifier_model" / "tokenizer_config.json")
    for kind in ("listwise", "both"):
        settings = EvaluateSettings(run=own_run.run, data=own_run.data, verifier=kind, check=True, **FEW)
        with pytest.raises(UserError, match=r"verifier_model was made with.*--allow-mismatch tokenizer$"):
            evaluate(settings)


def test_candidates_are_mined_with_what_the_generator_was_trained_on(own_run):
    rotate(own_run, "train")
    options = {"data": own_run.data, "num_beams": 4, "num_candidates": 3, "limit": 2, **CPU}
    with pytest.raises(UserError, match="--allow-mismatch identifiers$"):
        candidates.main(candidates.Settings(run=own_run.run, **options))
    candidates.main(candidates.Settings(run=own_run.run, allow_mismatch="identifiers", **options))
    assert read_json(own_run.run / "manifest.json")["stages"]["candidates"]["allowed_mismatches"]


@pytest.mark.parametrize(
    ("start", "change", "kind"),
    [
        ("base", lambda own: rotate(own, "train"), "identifiers"),
        ("base", lambda own: add_to(own.base / "config.json"), "base"),
        ("identifier", lambda own: add_to(own.base / "config.json"), "base"),
        ("identifier", lambda own: add_to(own.run / "identifier_model" / "tokenizer_config.json"), "tokenizer"),
    ],
)
def test_a_verifier_starts_from_what_the_generator_started_from(own_run, start, change, kind):
    scene = list(read_jsonl(own_run.run / "identifiers" / "t2i.jsonl"))[:2]
    ids = [row["item_id"] for row in scene]
    row = {"direction": "t2i", "query_id": "q", "query": "a circle", "candidates": ids, "right": ids[0]}
    write_jsonl(own_run.run / "candidates" / "t2i.jsonl", [row] * 4)
    words = ["--run", own_run.run, "--data", own_run.data, "--model.start", start, "--check"]
    words += ["--training.batch-size", "1", "--training.bf16", "no"]
    words += ["--lora.rank", 4] if start == "identifier" else []
    run_recipe("train_verifier", *words)
    change(own_run)
    with pytest.raises(UserError, match=f"--allow-mismatch {kind}$"):
        run_recipe("train_verifier", *words)
    run_recipe("train_verifier", *words, "--allow-mismatch", kind)


def test_an_identifier_training_that_goes_on_from_another_runs_model(own_run):
    """The clusters of other identifiers mean other things."""
    write_json(own_run.run / "identifiers" / "cluster_words.json", {"clusters": [{"words": []}] * 3})
    start = shutil.copytree(own_run.run / "identifier_model", own_run.run.parent / "start")
    words = ["--run", own_run.run, "--data", own_run.data, "--model.base", start, "--lora.rank", 4, "--check"]
    words += ["--training.bf16", "no", "--training.batch-size", 4]
    run_recipe("train_identifier", *words)
    rotate(own_run, "train")
    with pytest.raises(UserError, match="--allow-mismatch identifiers$"):
        run_recipe("train_identifier", *words)
    run_recipe("train_identifier", *words, "--allow-mismatch", "identifiers")


def test_captions_by_an_adapter_whose_base_has_changed(own_run):
    add_to(own_run.base / "config.json")
    model = str(own_run.run / "identifier_model")
    settings = caption.Settings(data=own_run.data, run=own_run.run.parent / "new", model=model)
    with pytest.raises(UserError, match="--base FOLDER.*--allow-mismatch base$"):
        caption.main(settings)


def test_the_command_line_ends_with_exit_code_2_and_goes_on_with_the_flag(own_run, semcore, caplog):
    rotate(own_run, "test")
    words = ["search", "--run", str(own_run.run), "--data", str(own_run.data), "a red circle", "--json"]
    code, _, errors = semcore(*words)
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.endswith("--allow-mismatch identifiers\n")
    code, out, _ = semcore(*words, "--allow-mismatch", "identifiers")
    assert code == 0
    assert len(out.splitlines()) == 10
    assert "going on although" in caplog.text


@pytest.mark.parametrize("beside", [True, False])
def test_a_base_that_has_moved(own_run, tmp_path, beside):
    """With the run it is found again; alone it is asked for once, by the flag's name."""
    if beside:
        shutil.move(own_run.run.parent, tmp_path.with_name(f"{tmp_path.name}-moved"))
        own = tmp_path.with_name(f"{tmp_path.name}-moved")
        run, data, base = own / "run", own / own_run.data.name, {}
    else:
        shutil.move(own_run.base, tmp_path / "elsewhere")
        run, data, base = own_run.run, own_run.data, {"base": tmp_path / "elsewhere"}
        with pytest.raises(UserError, match=r"no longer there; say where it is with --base FOLDER$"):
            Retriever.from_run(run, data=data, verifier="none", **CPU)
    for verifier in ("none", "likelihood"):
        retriever = Retriever.from_run(run, data=data, split="test", verifier=verifier, **base, **CPU)
        assert retriever.mismatches == []
        assert retriever.search(text="a red circle", top_k=2)


def test_an_adapter_that_is_trained_on_names_the_place_where_its_base_is_now(own_run, tmp_path):
    adapter = own_run.run / "identifier_model"
    moved = shutil.move(own_run.base, tmp_path / "elsewhere")
    checkpoint = load_checkpoint(adapter, base=moved)
    checkpoint.model.save_pretrained(tmp_path / "again")
    assert base_of(tmp_path / "again") == str(moved)
    assert read_note(adapter).fingerprint == fingerprint(moved)

import itertools
import json
import re
import shutil

import ir_measures
import pytest
from huggingface_hub import ModelCard

import semcore.evaluation.fitted_fusions
import semcore.retrieval.batch
from semcore.commands.evaluate import EvaluateSettings, main
from semcore.data.dataset import load_dataset
from semcore.data.items_and_queries import Queries, draw_queries
from semcore.data.run_folder import RunFolder
from semcore.data.subsets import first_images
from semcore.evaluation.per_query import read_per_query
from semcore.evaluation.trec import rankings, read_qrels, read_run
from semcore.report import write_model_cards
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_jsonl, write_json, write_jsonl
from semcore.runtime.fingerprints import fingerprint
from semcore.verification import BlockReader, Fusion
from semcore.verification.block_layout import attention_record
from tests.run_fixtures import SearchableRun

FILES = ["metrics.json", "verification.json"] + [
    f"{direction}/{name}"
    for direction in ("t2i", "i2t")
    for name in ("run.generated.trec", "run.verified.trec", "qrels.trec", "per_query.jsonl")
]


def settings(run, **others):
    small = {"verifier": "all", "num_beams": 8, "num_candidates": 5, "num_ablation_queries": 4, "num_val_queries": 8}
    small |= {"num_order_queries": 6, "shifts": [2, 3]}
    small |= {"num_no_match_queries": 0, "num_retention_queries": 0, "num_exhaustive_queries": 0}
    return EvaluateSettings(run.run, dtype="float32", device="cpu", **{**small, **others})


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semcore.retrieval.batch, "QUERIES_PER_CHUNK", 4)
        yield


@pytest.fixture
def blocks_verifier(searchable_run):
    """A verifier in candidate blocks, with the weights of the other one."""
    folder = shutil.copytree(searchable_run.run / "verifier_model", searchable_run.run / "verifier_model_blocks")
    write_json(folder / "attention.json", attention_record("blocks"))
    return folder


@pytest.fixture(scope="module")
def measured(finished_training, tmp_path_factory):
    """A measured run, not to be changed."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(finished_training.run, folder)
    run = SearchableRun(finished_training.data, folder, finished_training.base)
    main(settings(run))
    return run


def without_seconds(path):
    content = read_json(path)
    content.pop("seconds", None)
    return content


def test_metrics_say_everything(measured):
    metrics = read_json(measured.run / "metrics.json")
    assert set(metrics["verifiers"]) == set(metrics["validation"]) == {"listwise", "pointwise", "likelihood"}
    assert metrics["verifier"] in metrics["verifiers"]
    assert (metrics["protocol"], metrics["num_beams"]) == ("inductive", 8)
    assert set(metrics["verifiers_alone"]) == set(metrics["verifiers"])
    assert (metrics["split"], metrics["fusion"], metrics["fitted_on"]) == ("test", "val", "val")
    assert metrics["cross_fitted"] is False
    assert metrics["num_unanswerable"] == {"t2i": 0, "i2t": 0}
    assert set(metrics["ablations"]) == {"without_verification", "with_trie", "without_trie"}
    for direction, num_queries, num_items in (("t2i", 30, 6), ("i2t", 6, 30)):
        generated, verified = metrics[direction]["generated"], metrics[direction]["verified"]
        assert (generated["num_queries"], generated["num_items"]) == (num_queries, num_items)
        assert verified == metrics["verifiers"][metrics["verifier"]][direction]
        assert metrics["ceiling"][direction] == read_json(measured.data / "ceiling.json")["test"][direction]
        for trie in ("with_trie", "without_trie"):
            assert metrics["ablations"][trie][direction]["num_queries"] == 4
        assert metrics["ablations"]["without_verification"][direction]["num_queries"] == num_queries
    assert metrics["seconds"]["all"] == pytest.approx(sum(metrics["seconds"].values()) / 2, abs=0.1)


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@pytest.mark.parametrize("stage", ["generated", "verified"])
def test_files_and_metrics_agree(measured, direction, stage):
    """The scores can be had again from the TREC files, by another program's reading of them."""
    scores = read_json(measured.run / "metrics.json")[direction][stage]
    folder = measured.run / direction
    qrels, run = (list(read(str(folder / name))) for read, name in (
        (ir_measures.read_trec_qrels, "qrels.trec"), (ir_measures.read_trec_run, f"run.{stage}.trec")))  # fmt: skip
    again = ir_measures.calc_aggregate([ir_measures.Success @ 1, ir_measures.Success @ 5], qrels, run)
    assert scores["R@1"] == pytest.approx(100 * again[ir_measures.Success @ 1])
    assert scores["R@5"] == pytest.approx(100 * again[ir_measures.Success @ 5])
    found = [row[f"rank_{stage}"] == 1 for row in read_per_query(folder / "per_query.jsonl")]
    assert scores["R@1"] == pytest.approx(100 * sum(found) / len(found))


def test_every_query_has_exactly_one_ranking_of_its_candidates(measured):
    for direction in ("t2i", "i2t"):
        folder = measured.run / direction
        generated, verified = (rankings(read_run(folder / f"run.{stage}.trec")) for stage in ("generated", "verified"))
        assert generated.keys() == verified.keys() == read_qrels(folder / "qrels.trec").keys()
        assert all(sorted(verified[query]) == sorted(generated[query][:5]) for query in generated)


def test_the_better_verifier_on_val_counts(measured):
    metrics = read_json(measured.run / "metrics.json")
    sums = {name: sum(own[d]["R@1"] for d in ("t2i", "i2t")) for name, own in metrics["validation"].items()}
    assert sums[metrics["verifier"]] == max(sums.values())
    assert metrics["validation"]["listwise"]["t2i"]["num_queries"] == 8  # drawn from 20


def test_verifiers_are_compared_query_by_query(measured):
    metrics = read_json(measured.run / "metrics.json")
    assert set(metrics["verifiers_less_chosen"]) == set(metrics["verifiers"]) - {metrics["verifier"]}
    for name, kind in itertools.product(metrics["verifiers"], ("fused", "alone")):
        scores = metrics["verifiers" if kind == "fused" else "verifiers_alone"][name]
        for direction in ("t2i", "i2t"):
            change = metrics["verifiers_less_generated"][name][direction][kind]["R@1"]
            assert change["mean"] == pytest.approx(scores[direction]["R@1"] - metrics[direction]["generated"]["R@1"])
            assert change["low"] <= change["mean"] <= change["high"]
            if kind == "fused" and name != metrics["verifier"]:
                change = metrics["verifiers_less_chosen"][name][direction]["R@5"]
                chosen = metrics[direction]["verified"]
                assert change["mean"] == pytest.approx(scores[direction]["R@5"] - chosen["R@5"])


def test_order_bias_is_measured_with_one_shift_the_wanted_and_all(measured):
    for direction, shifts in (("t2i", 2), ("i2t", 3)):
        [found] = read_json(measured.run / "metrics.json")["order_bias"][direction]
        assert (found["model"], found["num_candidates"], found["num_orders"], found["chance"]) == ("trained", 5, 2, 20)
        assert 1 <= found["num_queries"] <= 6
        assert [row["shifts"] for row in found["rows"]] == [1, shifts, 5]
        for row in found["rows"]:
            assert len(row["accuracy_by_position"]) == 5
            assert row["accuracy"] == pytest.approx(sum(row["accuracy_by_position"]) / 5, abs=0.01)
        assert found["rows"][-1]["spread"] == 0  # all shifts: where the right one stands does not matter


def test_verifiers_settings_are_stored_with_their_fusions(measured):
    content = read_json(measured.run / "verification.json")
    assert (content["num_shifts"], content["fitted_on"], content["models"]) == ({"t2i": 2, "i2t": 3}, "val", {})
    assert set(content["fusion"]) == {"listwise", "pointwise", "likelihood", "none"}
    for own in content["fusion"].values():
        assert [own[direction]["num_items"] for direction in ("t2i", "i2t")] == [6, 30]  # val's 4 and 20, filled up
        assert all(0 <= fusion["weight"] <= 1 and fusion["calibration"] for fusion in own.values())


def test_the_row_with_the_trie_asks_what_the_one_without_asks(measured):
    """The same four queries, as the generator has ranked them for the main table."""
    metrics = read_json(measured.run / "metrics.json")
    for direction in ("t2i", "i2t"):
        rows = {row["query_id"]: row for row in read_per_query(measured.run / direction / "per_query.jsonl")}
        texts = dict.fromkeys(rows, "")
        asked = draw_queries(Queries(texts, texts, {query: set(row["right"]) for query, row in rows.items()}), 4)
        right_first = sum(rows[query]["rank_generated"] == 1 for query in asked.relevant)
        assert metrics["ablations"]["with_trie"][direction]["R@1"] == pytest.approx(100 * right_first / 4)
    report = (measured.run / "report.md").read_text()
    assert report.count("4 queries drawn at random") == 4


def test_alone_the_verifiers_own_order_counts(searchable_run, measured):
    """The fused figures stay beside it, and those of a verifier alone are the same either way."""
    main(settings(searchable_run, fusion="none", verifier="both", ablations=False, num_order_queries=0))
    plain, fused = (read_json(run.run / "metrics.json") for run in (searchable_run, measured))
    for kind in ("verifiers", "verifiers_alone"):
        assert plain[kind] == {name: fused[kind][name] for name in ("listwise", "likelihood")}
    assert plain["fusion"] == "none"
    for direction in ("t2i", "i2t"):
        assert plain[direction]["verified"] == plain["verifiers_alone"][plain["verifier"]][direction]
    weights = read_json(searchable_run.run / "verification.json")["fusion"]
    assert {fusion["weight"] for name in weights if name != "none" for fusion in weights[name].values()} == {0.0}
    hits = Retriever.from_run(searchable_run.run, split="test", verifier="likelihood", dtype="float32", device="cpu")
    fusion = hits.fusion_settings.fusions["likelihood"]["t2i"]
    assert (fusion.weight, fusion.temperature) == (0.0, 1.0)  # a search orders as the evaluation did
    assert "likelihood alone" in (measured.run / "report.md").read_text()
    assert "by weights fitted on val" not in (searchable_run.run / "report.md").read_text()


def test_val_is_ranked_with_what_was_fitted_without_the_query(searchable_run, monkeypatch):
    """Fusions of queries left out are told from the overall one by their temperature."""

    def recognisable(*rows, contents, groups, further, alone):
        return dict.fromkeys(contents, Fusion(1.0, 7.0))

    monkeypatch.setattr(semcore.evaluation.fitted_fusions, "cross_fit", recognisable)
    few = {"verifier": "likelihood", "num_ablation_queries": 2, "num_order_queries": 0}
    main(settings(searchable_run, split="val", folds=2, **few))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert (metrics["split"], metrics["cross_fitted"], metrics["fitted_on"]) == ("val", True, "val")
    for direction in ("t2i", "i2t"):
        for row in read_per_query(searchable_run.run / direction / "per_query.jsonl"):
            expected = [hit["score"] / 7 for hit in row["generated"][:5]]
            assert [hit["score"] for hit in row["verified"]] == pytest.approx(expected)
        stages = metrics["folds"][direction]
        assert stages["verified"]["R@1"] == stages["generated"]["R@1"]  # a fold of val is val
    weights = read_json(searchable_run.run / "verification.json")["fusion"]["likelihood"]
    assert 7.0 not in {fusion["temperature"] for fusion in weights.values()}  # a search has seen all of val
    assert "each fifth of it is ranked with those of the other four" in (searchable_run.run / "report.md").read_text()
    stage = RunFolder(searchable_run.run).manifest()["stages"]["evaluate"]
    assert stage["num_queries"] == 20 + 4  # of the split, not of its folds too


@pytest.mark.parametrize("broken", ["empty caption", "unreadable"])
def test_a_query_without_an_answer_in_the_index_is_a_miss(searchable_run, tmp_path, broken):
    """An image has lost its identifier: its five sentences find nothing, and only a broken file cannot be asked."""
    data = shutil.copytree(searchable_run.data, tmp_path / "data")
    lost = next(record for record in load_dataset(data).split("test"))
    if broken == "unreadable":
        path = load_dataset(data).image_path(lost)
        path.unlink()
        path.write_bytes(b"broken")
    file = searchable_run.run / "identifiers" / "t2i.jsonl"
    write_jsonl(file, [row for row in read_jsonl(file) if row["item_id"] != lost.image_id])
    few = {"verifier": "listwise", "shifts": 1, "num_order_queries": 9, "num_ablation_queries": 2}
    main(settings(searchable_run, data=data, folds=2, allow_mismatch="identifiers", **few))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert metrics["num_unanswerable"] == {"t2i": 5, "i2t": 1 if broken == "unreadable" else 0}
    scores = metrics["t2i"]["generated"]
    assert (scores["num_queries"], scores["num_items"]) == (30, 5)
    assert metrics["i2t"]["generated"]["num_queries"] == 6
    assert metrics["folds"]["t2i"]["generated"]["num_queries"] == 15
    rows = {row["query_id"]: row for row in read_per_query(searchable_run.run / "t2i" / "per_query.jsonl")}
    own = [rows[sentence.sentence_id] for sentence in lost.sentences]
    assert [(row["right"], row["rank_generated"], row["rank_verified"]) for row in own] == [
        ([lost.image_id], None, None)
    ] * 5
    assert all(row["generated"] for row in own)  # they are asked, and what comes back is shown
    for name in ("report.md", "report.html"):
        assert "5 of the queries can find nothing right" in (searchable_run.run / name).read_text()


def test_images_that_a_limit_left_out_are_no_misses(searchable_run):
    """A trial with a few images measures these; the others were never meant to have an identifier."""
    run = RunFolder(searchable_run.run)
    run.open_stage("identifiers", {"limit": 11}, {}, searchable_run.data).finish()
    dataset = load_dataset(searchable_run.data)
    chosen = {record.image_id for record in first_images(dataset, 11) if record.split == "test"}
    kept = {
        i for image in first_images(dataset, 11) for i in (image.image_id, *(s.sentence_id for s in image.sentences))
    }
    for direction in ("t2i", "i2t"):
        file = run / "identifiers" / f"{direction}.jsonl"
        write_jsonl(file, [row for row in read_jsonl(file) if row["item_id"] in kept])
    main(settings(searchable_run, verifier="none", ablations=False, allow_mismatch="identifiers"))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert metrics["num_unanswerable"] == {"t2i": 0, "i2t": 0}
    assert metrics["t2i"]["generated"]["num_queries"] == 5 * len(chosen) < 30


def test_the_untrained_verifier_can_be_measured_too(searchable_run):
    few = {"verifier": "listwise", "ablations": False, "limit": 3, "num_val_queries": 2}
    with pytest.raises(UserError, match="does not say what its listwise verifier was trained from; leave out"):
        main(settings(searchable_run, order_bias_untrained=True, **few))
    started = {"model": {"start": "base", "base": str(searchable_run.base)}, "training": {}, "lora": {}}
    content = {"the checkpoint": fingerprint(searchable_run.base)}
    RunFolder(searchable_run.run).open_stage("train_verifier", started, content, searchable_run.data).finish()
    main(settings(searchable_run, order_bias_untrained=True, **few))
    for own in read_json(searchable_run.run / "metrics.json")["order_bias"].values():
        assert [measured["model"] for measured in own] == ["trained", "untrained"]
        assert own[0]["rows"] == own[1]["rows"]  # here both are the same weights
    report = (searchable_run.run / "report.md").read_text()
    assert "| untrained | 5 |" in report and "Order bias" in (searchable_run.run / "report.html").read_text()


def test_without_constraint_unknown_identifiers_find_nothing(searchable_run):
    main(settings(searchable_run, verifier="likelihood", constraint=False, num_beams=4))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert metrics["constraint"] is False
    assert set(metrics["ablations"]) == {"without_verification"}
    for direction, num_queries in (("t2i", 30), ("i2t", 6)):
        assert metrics[direction]["verified"]["num_queries"] == num_queries
        assert {f"without trie {direction} {split}" for split in ("val", "test")} <= metrics["seconds"].keys()
        rows = read_per_query(searchable_run.run / direction / "per_query.jsonl")
        assert all(len(row["verified"]) == min(len(row["generated"]), 5) for row in rows)
        assert any(not row["generated"] for row in rows)  # its random model does not end by itself
    assert "4, without the prefix tree" in (searchable_run.run / "report.md").read_text()


def test_rankings_are_the_same_where_no_features_are_kept(searchable_run, measured):
    main(settings(searchable_run, keep_features=False))
    assert not (searchable_run.run / "features").exists()
    for direction in ("t2i", "i2t"):
        for ranking in ("run.generated.trec", "run.verified.trec"):
            found, right = (read_run(run.run / direction / ranking) for run in (searchable_run, measured))
            assert {q: [item for item, _ in own] for q, own in found.items()} == {
                q: [item for item, _ in own] for q, own in right.items()
            }


def test_every_trained_model_gets_a_card_with_its_scores(measured):
    card = ModelCard.load(measured.run / "identifier_model" / "README.md")
    found = {(r.task_name, r.metric_name): r.metric_value for r in card.data.eval_results}
    scores = read_json(measured.run / "metrics.json")["t2i"]["generated"]
    assert found["text to image retrieval", "R@1"] == pytest.approx(scores["R@1"], abs=1e-3)
    assert "trained from: base" in card.text
    assert not (measured.run / "verifier_model" / "README.md").exists()  # it was not trained in this run


def test_a_report_is_written(measured):
    assert "R@1" in (measured.run / "report.md").read_text()
    assert (measured.run / "report.html").stat().st_size > 10_000


def test_a_killed_evaluation_goes_on_and_ends_the_same(searchable_run, measured, monkeypatch):
    """Dies in the middle of every step in turn; what was done before is not done again."""
    in_chunks, deaths = semcore.retrieval.batch.in_chunks, []

    def mortal(folder, name, tasks, size, work, **options):
        def work_and_die(chunk):
            done = work(chunk)
            if name not in deaths and len(list(folder.glob(f"{name}-*"))) * size + len(chunk) >= len(tasks) / 2:
                deaths.append(name)
                raise KeyboardInterrupt
            return done

        return in_chunks(folder, name, tasks, size, work_and_die, **options)

    monkeypatch.setattr(semcore.retrieval.batch, "in_chunks", mortal)
    finished = False
    while not finished:
        try:
            main(settings(searchable_run))
            finished = True
        except KeyboardInterrupt:
            assert not (searchable_run.run / "metrics.json").exists()
    assert len(deaths) == 21
    for name in FILES:
        if name == "metrics.json":
            assert without_seconds(searchable_run.run / name) == without_seconds(measured.run / name)
        else:
            assert (searchable_run.run / name).read_bytes() == (measured.run / name).read_bytes(), name
    assert not (searchable_run.run / ".evaluate").exists()


def test_a_second_run_only_writes_a_missing_report_and_model_cards(measured, capsys):
    cards = list(measured.run.glob("*_model/README.md"))
    assert cards
    with_scores = [card.read_bytes() for card in cards]
    (measured.run / "report.md").unlink()
    metrics = (measured.run / "metrics.json").rename(measured.run / "kept")
    write_model_cards(RunFolder(measured.run), load_dataset(measured.data).name)
    metrics.rename(measured.run / "metrics.json")
    assert [card.read_bytes() for card in cards] != with_scores
    before = (measured.run / "metrics.json").stat().st_mtime_ns
    main(settings(measured))
    assert (measured.run / "report.md").exists()
    assert [card.read_bytes() for card in cards] == with_scores
    cards[0].write_text("edited by hand")
    main(settings(measured))
    assert cards[0].read_text() == "edited by hand"
    cards[0].write_bytes(with_scores[0])
    assert (measured.run / "metrics.json").stat().st_mtime_ns == before
    assert "evaluate: already measured, see" in capsys.readouterr().out


def test_other_settings_are_noticed(measured):
    with pytest.raises(UserError, match="was begun with num_beams 8, not 4; choose another --run, or delete"):
        main(settings(measured, num_beams=4))


def test_a_changed_model_is_noticed(searchable_run):
    main(settings(searchable_run, verifier="none", ablations=False))
    with (searchable_run.run / "identifier_model" / "config.json").open("a") as handle:
        handle.write("\n")
    with pytest.raises(UserError, match="^the generator model has changed since stage evaluate of"):
        main(settings(searchable_run, verifier="none", ablations=False))


def test_without_a_verifier(searchable_run):
    main(settings(searchable_run, verifier="none", ablations=False, limit=3))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert metrics["verifier"] == "none"
    shared = {"generated_as_they_count"}  # two test images share their identifier
    assert set(metrics["t2i"]) - shared == {"generated", "generated_paper", "generated_less_paper"}
    assert metrics["t2i"]["generated"]["num_queries"] == 3
    assert metrics["t2i"]["generated"]["num_items"] == 6
    assert "ceiling" not in metrics  # only some queries were asked
    assert not (searchable_run.run / "t2i" / "run.verified.trec").exists()


def test_one_verifier_needs_no_other_model(searchable_run):
    (searchable_run.run / "verifier_model" / "config.json").unlink()
    main(settings(searchable_run, verifier="likelihood", ablations=False))
    metrics = read_json(searchable_run.run / "metrics.json")
    assert set(metrics["verifiers"]) == {"likelihood"}
    assert metrics["order_bias"] == {}


def test_the_verifier_in_blocks_is_compared_with_the_default(searchable_run, blocks_verifier, capsys, monkeypatch):
    read_options, asked = BlockReader.read_options, []

    def counted(self, direction, questions, *rest):
        asked.extend([direction] * len(questions))
        return read_options(self, direction, questions, *rest)

    monkeypatch.setattr(BlockReader, "read_options", counted)
    main(settings(searchable_run, ablations=False, num_order_queries=2))
    output = capsys.readouterr().out
    assert "evaluate: the blocks verifier is asked with attention blocks, as it was trained\n" in output
    assert "evaluate: the listwise verifier is asked with attention full, as it was trained\n" in output
    metrics = read_json(searchable_run.run / "metrics.json")
    orders = 2 * 2 * 5  # of two queries, for their bias
    assert {d: asked.count(d) for d in asked} == {"t2i": 2 * (30 + 8) + orders, "i2t": 3 * (6 + 4) + orders}
    assert list(metrics["verifiers"]) == ["listwise", "blocks", "pointwise", "likelihood"]
    for direction in ("t2i", "i2t"):
        assert metrics["seconds"][f"blocks {direction} test"] > 0
        assert [own["model"] for own in metrics["order_bias"][direction]] == ["trained", "trained, blocks"]
    report = (searchable_run.run / "report.md").read_text()
    assert "| rSum | MRR@10 | seconds |" in report
    assert "\n- blocks: the same, but reads each candidate by itself, once for all queries; R@1 " in report


def test_several_verifiers_are_with_the_one_in_blocks_where_it_is_trained(searchable_run, blocks_verifier):
    assert settings(searchable_run, verifier="both").verifiers == ("listwise", "blocks", "likelihood")
    (blocks_verifier / "config.json").unlink()
    assert settings(searchable_run, verifier="both").verifiers == ("listwise", "likelihood")
    assert settings(searchable_run, verifier="all").verifiers == ("listwise", "pointwise", "likelihood")


def test_one_verifier_in_blocks_needs_no_other(searchable_run, blocks_verifier):
    shutil.rmtree(searchable_run.run / "verifier_model")
    main(settings(searchable_run, verifier="blocks", ablations=False, num_order_queries=0))
    assert read_json(searchable_run.run / "metrics.json")["verifier"] == "blocks"
    assert Retriever.from_run(searchable_run.run, split="test", dtype="float32", device="cpu").verifier == "blocks"


def test_a_verifier_in_blocks_that_is_not_trained_is_named(searchable_run):
    with pytest.raises(UserError, match=r"no model in .*verifier_model_blocks; .*train_verifier.py --attention blocks"):
        main(settings(searchable_run, verifier="blocks"))


def test_check_measures_nothing(searchable_run, capsys):
    main(settings(searchable_run, check=True))
    assert "evaluate: everything is in order: 30 queries t2i test, 6 queries i2t test" in capsys.readouterr().out
    assert "evaluate" not in RunFolder(searchable_run.run).manifest()["stages"]


def test_missing_models_are_named(searchable_run):
    (searchable_run.run / "verifier_model" / "config.json").unlink()
    with pytest.raises(UserError, match=r"no model in .*verifier_model; .* or use --verifier likelihood$"):
        main(settings(searchable_run))
    manifest = json.loads((searchable_run.run / "manifest.json").read_text())
    del manifest["stages"]["caption"]
    (searchable_run.run / "manifest.json").write_text(json.dumps(manifest))
    for name in ("likelihood", "pointwise"):
        with pytest.raises(UserError) as error:
            main(settings(searchable_run, verifier=name))
        assert str(error.value) == (
            f"{searchable_run.run} does not say which model wrote its captions, and the {name} verifier asks that one; "
            f"name a model with --{name}-model, or use --verifier listwise"
        )


def test_a_named_model_is_stored_for_later_searches(searchable_run):
    few = {"verifier": "pointwise", "ablations": False, "limit": 2, "num_val_queries": 2}
    main(settings(searchable_run, pointwise_model=str(searchable_run.base), **few))
    stored = read_json(searchable_run.run / "verification.json")
    assert (stored["verifier"], stored["models"]) == ("pointwise", {"pointwise": str(searchable_run.base)})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_beams": 0}, "--num-beams must be 1 or more, found 0"),
        ({"num_candidates": 11}, "--num-candidates must be 10 or less, one a letter from A to J, found 11"),
        (
            {"num_candidates": 1, "shifts": 1},
            "--num-candidates must be 2 or more for a verifier to choose between, found 1; "
            "use --verifier none to rank without one",
        ),
        ({"num_order_queries": -1}, "--num-order-queries must be 0 or more, found -1"),
        ({"shifts": 6}, "--shifts must be --num-candidates or less, found 6"),
        ({"shifts": [2, 6]}, "--shifts must be --num-candidates or less, found 6"),
        ({"shifts": [0, 2]}, "--shifts must be 1 or more, found 0"),
        (
            {"shifts": [2]},
            "--shifts takes a number, or two in brackets, one from text to image and one from image to text, found [2]",
        ),
        ({"limit": 0}, "--limit must be 1 or more, found 0"),
    ],
)
def test_wrong_settings(finished_training, wrong, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        settings(finished_training, **wrong)

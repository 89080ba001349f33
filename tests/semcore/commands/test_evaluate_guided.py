"""Guides, fused candidates and verifiers of pairs, from an evaluation to the search that follows it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import semcore.evaluation.fused_candidates
import semcore.retrieval.dense
from semcore.commands.evaluate import EvaluateSettings, main
from semcore.commands.search_options import CandidateOptions, GuideOptions
from semcore.data.dataset import load_dataset
from semcore.evaluation.per_query import read_per_query
from semcore.evaluation.trec import rankings, read_run
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_jsonl
from semcore.verification.score_fusion import read_fusion_settings
from tests.run_fixtures import SearchableRun
from tests.semcore.evaluation.test_dense_baselines import count_letters, make_dual_encoder
from tests.semcore.verification.test_pair_verifiers import make_itm


def settings(run: SearchableRun, **others: Any) -> EvaluateSettings:
    small = {"verifier": "none", "num_beams": 6, "num_candidates": 4, "ablations": False, "num_val_queries": 8}
    small |= {"num_no_match_queries": 0, "num_retention_queries": 4, "num_order_queries": 2}
    return EvaluateSettings(run.run, dtype="float32", device="cpu", **{**small, **others})


@pytest.fixture(scope="module")
def dual_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dual_encoder("clip", tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def fused(
    finished_training: SearchableRun, dual_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> SearchableRun:
    """A run that was evaluated with a guide of vectors, candidates of both sides and verifiers of pairs."""
    folder = tmp_path_factory.mktemp("fused")
    shutil.copytree(finished_training.run, folder / "run")
    run = SearchableRun(finished_training.data, folder / "run", finished_training.base)
    itm = make_itm(folder / "tiny-itm")
    main(
        settings(
            run, verifier="all", num_candidates=8, dual_model=str(dual_folder), itm_model=str(itm),
            guide=GuideOptions(kind="dense", model=str(dual_folder), weight=2.0),
            candidates=CandidateOptions(source="both", model=str(dual_folder), num_dense=5),
        )
    )  # fmt: skip
    return run


def test_all_verifiers_are_measured_with_their_models(fused: SearchableRun) -> None:
    metrics = read_json(fused.run / "metrics.json")
    assert list(metrics["verifiers"]) == ["listwise", "pointwise", "likelihood", "dual", "itm"]
    assert metrics["verifiers_alone"]["dual"] != metrics["verifiers_alone"]["itm"]
    models = read_json(fused.run / "verification.json")["models"]
    assert {name: Path(place).name for name, place in models.items()} == {"dual": "tiny-clip", "itm": "tiny-itm"}
    report = (fused.run / "report.md").read_text()
    for row in ("| dual |", "| itm |", "| candidates |", "| generated, as they count |"):
        assert row in report
    assert "The search is guided by the cosine of the query's and the item's vectors with weight 2, as given" in report
    assert "Candidates are the generator's and the 5 nearest by" in report


def test_the_metrics_say_what_each_side_found(fused: SearchableRun) -> None:
    metrics = read_json(fused.run / "metrics.json")
    assert metrics["guide"]["weights"] == {"t2i": 2.0, "i2t": 2.0}
    for direction in ("t2i", "i2t"):
        assert sum(metrics["candidates"]["found_by_percent"][direction].values()) == pytest.approx(100)
        assert metrics[direction]["candidates"]["num_queries"] == metrics[direction]["generated"]["num_queries"]
        items, strings = metrics[direction]["generated"], metrics[direction].get("generated_as_they_count")
        assert strings is None or all(strings[name] >= items[name] for name in ("R@1", "R@5", "R@10"))
    assert "generated_as_they_count" in metrics["t2i"]  # two test images share an identifier


def test_fusions_weigh_the_further_scores_and_are_read_back(fused: SearchableRun) -> None:
    path = fused.run / "verification.json"
    own = read_fusion_settings(path).fusions["dual"]["t2i"]
    assert own.further.keys() == {"dense", "guide"}
    assert own.fuse([1.0], [2.0], {"dense": [3.0], "guide": [0.0]})[0] == pytest.approx(
        (own.weight + 2 * (1 - own.weight) + 3 * own.further["dense"]) / own.temperature
    )
    assert all(weight >= 0 for weight in own.further.values())


def test_hits_say_what_the_guide_added(fused: SearchableRun) -> None:
    rows = read_per_query(fused.run / "t2i" / "per_query.jsonl")
    assert all(-20 <= hit["guide"] <= 20 for row in rows for hit in row["generated"])
    assert any(hit["guide"] for row in rows for hit in row["generated"])


@pytest.mark.parametrize("verifier", ["dual", "itm", "likelihood", "none"])
def test_a_search_ranks_as_the_evaluation_did(fused: SearchableRun, verifier: str) -> None:
    """A sentence of the test split, and its image as a file that the dataset has not."""
    retriever = Retriever.from_run(
        fused.run, split="test", verifier=verifier, num_beams=6, num_candidates=8,
        dtype="float32", device="cpu",
    )  # fmt: skip
    dataset = load_dataset(fused.data)
    record = dataset.split("test")[2]
    best = read_json(fused.run / "verification.json")["verifier"]
    for direction, query, asked in (
        ("t2i", record.sentences[0].sentence_id, {"text": record.sentences[0].text}),
        ("i2t", record.image_id, {"image": dataset.image_paths[record.image_id]}),
    ):
        hits = retriever.search(**asked, top_k=8)
        assert len({hit.item_id for hit in hits}) == len(hits) >= 4
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        if verifier == best:
            ranked = rankings(read_run(fused.run / direction / "run.verified.trec"))[query]
            assert [hit.item_id for hit in hits][: len(ranked)] == list(ranked)[: len(hits)]


def test_a_weight_is_fitted_on_val_and_captions_guide(
    searchable_run: SearchableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions that say what the sentences say: keywords in them lead to the right items."""
    monkeypatch.setattr(semcore.retrieval.dense, "load_encoder", count_letters)
    records = load_dataset(searchable_run.data).images
    captions = [{"image_id": record.image_id, "caption": record.sentences[0].text} for record in records]
    write_jsonl(searchable_run.run / "captions.jsonl", captions)
    main(settings(searchable_run, num_beams=4, prior_weight=0.0, guide=GuideOptions(kind="words")))
    metrics = read_json(searchable_run.run / "metrics.json")
    for direction in ("t2i", "i2t"):
        tried = metrics["guide"]["validation"][direction]
        assert list(tried) == ["0", "0.25", "0.5", "1", "2", "4", "8"]
        chosen = f"{metrics['guide']['weights'][direction]:g}"
        assert tried[chosen]["R@1"] == max(own["R@1"] for own in tried.values())
    gains = [
        metrics[direction]["generated"]["R@1"] - metrics[direction]["generated_paper"]["R@1"]
        for direction in ("t2i", "i2t")
    ]
    assert max(gains) > 10
    retriever = Retriever.from_run(searchable_run.run, split="test", verifier="none", device="cpu")
    retriever.search(text=records[-1].sentences[0].text)
    with pytest.raises(UserError) as raised:
        retriever.search(image=Image.new("RGB", (64, 64)))
    assert str(raised.value) == (
        f"the evaluation of {searchable_run.run} searches with captions (--guide.kind words, --candidates.source "
        "generated), and a new picture has none: add --plain to search without them, or evaluate with a CLIP or SigLIP "
        "checkpoint"
    )
    plainly = Retriever.from_run(searchable_run.run, split="test", verifier="none", device="cpu", plain=True)
    assert plainly.search(image=Image.new("RGB", (64, 64)))
    with pytest.raises(UserError, match="guides the beam search, which engine transformers cannot: choose semcore$"):
        Retriever.from_run(searchable_run.run, verifier="none", engine="transformers", device="cpu")
    for place in ("t2i", "i2t"):
        shutil.rmtree(searchable_run.run / place)
    (searchable_run.run / "metrics.json").unlink()
    main(settings(searchable_run, num_beams=4, prior_weight=0.0))
    assert not (searchable_run.run / "search.json").exists(), "the record of another evaluation is gone"
    plain = read_json(searchable_run.run / "metrics.json")
    assert {"guide", "candidates"}.isdisjoint(plain)
    assert plain["t2i"]["generated"] == metrics["t2i"]["generated_paper"]


def test_an_evaluation_with_both_sides_goes_on_after_a_kill(
    searchable_run: SearchableRun, dual_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {
        "candidates": CandidateOptions(source="both", model=str(dual_folder), num_dense=3),
        "guide": GuideOptions(kind="dense", model=str(dual_folder)),
        "directions": ["t2i"],
    }
    whole = shutil.copytree(searchable_run.run, searchable_run.run.parent / "whole")
    main(settings(SearchableRun(searchable_run.data, whole, searchable_run.base), **wanted))
    monkeypatch.setattr(semcore.evaluation.fused_candidates, "QUERIES_PER_CHUNK", 8)
    real = semcore.evaluation.fused_candidates.find_candidates
    done: list[Any] = []

    def killed(*given: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(semcore.evaluation.fused_candidates, "find_candidates", killed)
        with pytest.raises(KeyboardInterrupt):
            main(settings(searchable_run, **wanted))
    main(settings(searchable_run, **wanted))
    for name in ("t2i", "guide", "candidates", "validation"):
        assert read_json(searchable_run.run / "metrics.json")[name] == read_json(whole / "metrics.json")[name]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"verifier": "dual"}, "the dual verifier needs a CLIP or SigLIP checkpoint, and none is named; name one with "
         "--dual-model CHECKPOINT"),
        ({"verifier": "itm"}, "the itm verifier needs a BLIP-ITM or BLIP-2-ITM checkpoint, and none is named; name one "
         "with --itm-model CHECKPOINT"),
        ({"candidates": CandidateOptions(source="both")}, "sentence-encoder reads captions, and RUN has none; make "
         "them with `python -m data_prep.caption --run RUN`, or use a CLIP or SigLIP checkpoint in its place"),
    ],
)  # fmt: skip
def test_what_an_evaluation_refuses(searchable_run: SearchableRun, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        main(settings(searchable_run, **wrong))
    assert str(raised.value).replace(str(searchable_run.run), "RUN") == sentence


def test_wrong_options() -> None:
    for make, sentence in (
        (lambda: GuideOptions(weight=-1), "--guide.weight must be fit, or a number of 0 or more, found -1"),
        (lambda: GuideOptions(best=0), "--guide.best must be 1 or more, found 0"),
        (lambda: CandidateOptions(num_dense=0), "--candidates.num-dense must be 1 or more, found 0"),
    ):
        with pytest.raises(UserError) as raised:
            make()
        assert str(raised.value) == sentence


def test_a_broken_record_is_named(searchable_run: SearchableRun) -> None:
    (searchable_run.run / "search.json").write_text('{"guide": {}}')
    with pytest.raises(UserError, match=r"search\.json does not say how to search; write it anew with `"):
        Retriever.from_run(searchable_run.run, verifier="none", device="cpu")

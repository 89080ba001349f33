import shutil

import numpy as np
import pytest
from PIL import Image

from semcore import Retriever
from semcore.data.dataset import load_dataset, open_image
from semcore.data.directions import Direction
from semcore.data.images import ORIENTATION
from semcore.data.items_and_queries import read_items
from semcore.models.inference import load_for_inference
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.corpus import build_corpus
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.verification import Fusion
from semcore.verification.block_layout import attention_record
from semcore.verification.calibration import Calibration
from semcore.verification.score_fusion import FusionSettings, write_fusion_settings

CPU = {"dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def retriever(finished_training):
    return Retriever.from_run(finished_training.run, split="test", **CPU)


@pytest.fixture(scope="module")
def test_images(finished_training):
    return load_dataset(finished_training.data).split("test")


def ids(hits):
    return [hit.item_id for hit in hits]


def test_a_text_finds_images(retriever, test_images):
    hits = retriever.search(text="a red circle", top_k=4)
    assert len(hits) == 4
    assert set(ids(hits)) <= {record.image_id for record in test_images}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.image_path.is_file() and hit.text is None and hit.confidence is None for hit in hits)
    assert all(hit.identifier.startswith("<|cluster_") for hit in hits)


def test_an_image_finds_sentences(retriever, test_images, finished_training):
    path = load_dataset(finished_training.data).image_path(test_images[0])
    hits = retriever.search(image=path, top_k=3)
    texts = {s.sentence_id: s.text for record in test_images for s in record.sentences}
    assert [hit.text for hit in hits] == [texts[hit.item_id] for hit in hits]
    assert ids(retriever.search(image=open_image(path), top_k=3)) == ids(hits)


def test_an_image_is_the_same_query_from_every_source(retriever, test_images, finished_training, tmp_path):
    picture = open_image(load_dataset(finished_training.data).image_path(test_images[0]))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored a quarter turn off
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    file = tmp_path / "phone.png"
    expected = [(hit.item_id, hit.score) for hit in retriever.search(image=picture, top_k=3)]
    for query in (file, str(file), file.read_bytes(), Image.open(file), np.asarray(picture), picture.convert("RGBA")):
        assert [(hit.item_id, hit.score) for hit in retriever.search(image=query, top_k=3)] == expected


def test_an_image_without_a_white_is_refused_by_name(retriever, tmp_path):
    deep = Image.new("F", (8, 8))
    deep.save(tmp_path / "deep.tif")
    for query, name in (
        (deep, "the picture given"),
        (tmp_path / "deep.tif", "deep.tif"),
        (b"text", "the picture given"),
    ):
        with pytest.raises(UserError, match=name):
            retriever.search(image=query)


def test_lists_are_answered_with_lists(retriever, test_images, finished_training):
    one, other = "a red circle", "there is a large blue star in the upper left."
    both = retriever.search(text=[one, other], top_k=3)
    assert [ids(hits) for hits in both] == [ids(retriever.search(text=text, top_k=3)) for text in (one, other)]
    paths = [load_dataset(finished_training.data).image_path(record) for record in test_images[:2]]
    assert [ids(hits) for hits in retriever.search(image=paths, top_k=2)] == [
        ids(retriever.search(image=path, top_k=2)) for path in paths
    ]


def test_what_is_not_verified_stands_behind(finished_training):
    retriever = Retriever.from_run(finished_training.run, split="test", num_candidates=2, **CPU)
    plain = Retriever.from_run(finished_training.run, split="test", verifier="none", **CPU)
    hits, unverified = (each.search(text="a red circle", top_k=6) for each in (retriever, plain))
    assert set(ids(hits[:2])) == set(ids(unverified[:2]))
    assert ids(hits[2:]) == ids(unverified[2:])
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_evaluations_choice_and_weights_are_used(searchable_run):
    calibration = Calibration(0.5, 0.25, -0.1, 0.0, 0.1, 0.2, -1.0)
    fusion = Fusion(0.0, 2.0, calibration, num_items=6)
    write_fusion_settings(
        searchable_run.run / "verification.json", FusionSettings("likelihood", {"likelihood": {"t2i": fusion}})
    )
    retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
    assert retriever.verifier == "likelihood"
    hits = retriever.search(text="a red circle", top_k=6)
    assert [hit.confidence for hit in hits] == pytest.approx(calibration.probabilities([hit.score for hit in hits]))
    assert [hit.confidence for hit in hits] == sorted((hit.confidence for hit in hits), reverse=True)
    assert retriever.confidence_note(Direction.T2I) == ""


def test_another_corpus_than_vals_is_said(searchable_run):
    fusion = Fusion(0.5, 1.0, Calibration(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), num_items=4)
    write_fusion_settings(
        searchable_run.run / "verification.json", FusionSettings("likelihood", {"likelihood": {"t2i": fusion}})
    )
    retriever = Retriever.from_run(searchable_run.run, **CPU)
    note = retriever.confidence_note(Direction.T2I)
    assert "val, 4 items" in note and "22 are searched" in note and "too high" in note
    assert "no confidence" in retriever.confidence_note(Direction.I2T)
    hits = retriever.search(text="a red circle", top_k=15)
    assert [hit.confidence is None for hit in hits] == [False] * 10 + [True] * 5  # behind the shortlist


def test_verifiers_have_the_settings_of_the_evaluation(searchable_run):
    """The listwise one over as many shifts, the pointwise one with the model that was named."""
    scores = {}
    for num_shifts in (1, 6):
        fusion_settings = FusionSettings("listwise", {"listwise": {"t2i": Fusion(0.0, 1.0)}}, {"t2i": num_shifts})
        write_fusion_settings(searchable_run.run / "verification.json", fusion_settings)
        retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
        scores[num_shifts] = {hit.item_id: hit.score for hit in retriever.search(text="a red circle")}
    assert scores[1] != pytest.approx(scores[6], abs=1e-3)
    named = FusionSettings("pointwise", {}, models={"pointwise": str(searchable_run.base / "gone")})
    write_fusion_settings(searchable_run.run / "verification.json", named)
    with pytest.raises(UserError, match="gone"):
        Retriever.from_run(searchable_run.run, split="test", **CPU).search(text="a red circle")


def test_each_direction_has_its_own_shifts(searchable_run, test_images, finished_training):
    path = load_dataset(finished_training.data).image_path(test_images[0])
    scores = []
    for num_shifts in ({"t2i": 1, "i2t": 1}, {"t2i": 10, "i2t": 1}, {"t2i": 1, "i2t": 10}):
        directions = {direction: Fusion(0.0, 1.0) for direction in num_shifts}
        fusion_settings = FusionSettings("listwise", {"listwise": directions}, num_shifts)
        write_fusion_settings(searchable_run.run / "verification.json", fusion_settings)
        retriever = Retriever.from_run(searchable_run.run, split="test", **CPU)
        scores.append({hit.item_id: hit.score for hit in retriever.search(image=path)})
    once, others, own = scores
    assert others == pytest.approx(once, abs=1e-6)
    assert own != pytest.approx(once, abs=1e-3)


@pytest.mark.parametrize("num_candidates", [1, 11])
def test_a_wrong_number_of_candidates_is_named(finished_training, num_candidates):
    with pytest.raises(UserError, match=f"^num_candidates must be from 2 to 10, found {num_candidates}$"):
        Retriever.from_run(finished_training.run, num_candidates=num_candidates)


def test_an_unknown_verifier_is_named(finished_training):
    with pytest.raises(UserError, match="^there is no verifier 'overlap'; choose one of listwise, .*, auto, none$"):
        Retriever.from_run(finished_training.run, verifier="overlap")


def test_one_item_needs_no_choice(finished_training):
    """Asked with one item in the index, every verifier gives the one ranking there is."""
    for verifier in ("listwise", "pointwise", "likelihood"):
        retriever = Retriever.from_run(finished_training.run, split="test", verifier=verifier, **CPU)
        retriever._corpora["t2i"] = build_corpus(
            retriever.generator,
            Direction.T2I,
            read_items(retriever.run, retriever.dataset, Direction.T2I, "test")[:1],
        )
        assert len(retriever.search(text="a red circle")) == 1


@pytest.mark.parametrize("verifier", ["listwise", "pointwise", "likelihood"])
def test_all_verifiers_work_in_both_directions(finished_training, test_images, verifier):
    retriever = Retriever.from_run(finished_training.run, split="test", verifier=verifier, **CPU)
    path = load_dataset(finished_training.data).image_path(test_images[0])
    assert len(retriever.search(text="a red circle")) == 6
    assert len(retriever.search(image=path)) == 10


def test_a_verifier_has_the_attention_of_its_training(searchable_run, test_images):
    """Its record decides, not its name: the same weights, first with full attention and then in blocks."""
    folder = searchable_run.run / "verifier_model"
    path = load_dataset(searchable_run.data).image_path(test_images[0])

    def search(verifier):
        retriever = Retriever.from_run(searchable_run.run, split="test", verifier=verifier, **CPU)
        hits = [*retriever.search(text="a red circle", top_k=6), *retriever.search(image=path)]
        return {hit.item_id: hit.score for hit in hits}, retriever

    full, before = search("listwise")
    assert before._verifier_session.blocks is None
    shutil.copytree(folder, searchable_run.run / "verifier_model_blocks")
    for recorded in (folder, searchable_run.run / "verifier_model_blocks"):
        write_json(recorded / "attention.json", attention_record("blocks"))
    (listwise, _), (blocks, retriever) = search("listwise"), search("blocks")
    assert listwise == pytest.approx(blocks, abs=1e-5)
    assert blocks == pytest.approx(full, abs=1e-3), "a model of one layer cannot tell the difference"
    num_read = retriever._verifier_session.blocks.states.num_read
    assert num_read > 6
    assert retriever.search(text="a red circle", top_k=6)
    assert retriever._verifier_session.blocks.states.num_read == num_read, "candidates are read once"


def test_a_record_that_is_not_understood_is_named(searchable_run):
    write_json(searchable_run.run / "verifier_model" / "attention.json", {"attention": "wide"})
    retriever = Retriever.from_run(searchable_run.run, split="test", verifier="listwise", **CPU)
    with pytest.raises(UserError, match=r"attention.json says that the attention is 'wide', known are full and blocks"):
        retriever.search(text="a red circle")


def test_the_feature_store_changes_no_ranking(searchable_run, monkeypatch):
    queries = ["a red circle", "two squares", "a large blue star"]

    def search():
        retriever = Retriever.from_run(searchable_run.run, split="test", verifier="listwise", **CPU)
        return retriever.search(text=queries, top_k=6)

    without = search()
    assert not (searchable_run.run / "features").exists()
    dataset = load_dataset(searchable_run.data)
    paths = {record.image_id: dataset.image_path(record) for record in dataset.split("test")}
    verifier = load_for_inference(searchable_run.run / "verifier_model", **CPU)
    FeatureStore(verifier, paths, searchable_run.run / "features").add(paths)
    monkeypatch.setattr("semcore.models.visual_features.encode_pictures", None)
    for with_store, plain in zip(search(), without, strict=True):
        assert ids(with_store) == ids(plain)
        assert [hit.score for hit in with_store] == pytest.approx([hit.score for hit in plain], abs=1e-5)


def test_all_splits_by_default(finished_training):
    retriever = Retriever.from_run(finished_training.run, verifier="none", **CPU)
    assert len(retriever.search(text="a red circle", top_k=50)) == 22


def test_the_dataset_may_have_moved(searchable_run, tmp_path):
    (tmp_path / "moved").symlink_to(searchable_run.data)
    hits = Retriever.from_run(searchable_run.run, data=tmp_path / "moved", **CPU).search(text="a red circle")
    assert hits[0].image_path.is_relative_to(tmp_path / "moved")


def test_mistakes_are_named(retriever, finished_training, tmp_path):
    with pytest.raises(UserError, match="search needs either a text or an image"):
        retriever.search()
    with pytest.raises(UserError, match="top_k must be at least 1, found 0"):
        retriever.search(text="a", top_k=0)
    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="broken.png cannot be read: not a picture in a known format; give a picture"):
        retriever.search(image=tmp_path / "broken.png")
    with pytest.raises(UserError, match="there is no split 'best'; choose one of train, val, test or all"):
        Retriever.from_run(finished_training.run, split="best")
    with pytest.raises(UserError, match="holds no run yet"):
        Retriever.from_run(tmp_path)


def test_a_run_without_a_model(searchable_run):
    (searchable_run.run / "identifier_model" / "config.json").unlink()
    with pytest.raises(UserError, match="no model in .*`accelerate launch .*train_identifier.py --run "):
        Retriever.from_run(searchable_run.run, **CPU)


def test_the_second_start_reads_the_index_of_the_first(searchable_run, monkeypatch):
    options = {"split": "test", "verifier": "none", **CPU}
    found = ids(Retriever.from_run(searchable_run.run, **options).search(text="a red circle"))
    monkeypatch.setattr("semcore.retrieval.corpus._build_index", None)
    assert ids(Retriever.from_run(searchable_run.run, **options).search(text="a red circle")) == found

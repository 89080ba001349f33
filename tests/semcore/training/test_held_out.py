import pytest

from semcore.data.dataset import ImageRecord, Sentence, load_dataset
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.training.held_out import choose_held_out, held_out_of_run, write_held_out


def records(*num_sentences: int) -> list[ImageRecord]:
    return [
        ImageRecord(f"i{n}", f"i{n}.png", "train", tuple(Sentence(f"i{n}-{s}", "text") for s in range(count)), "")
        for n, count in enumerate(num_sentences)
    ]


def test_every_image_keeps_a_sentence_to_be_found_by():
    held_out = choose_held_out(records(5, 2, 1, 0), sentences_per_image=2, image_fraction=0.0, seed=0)
    per_image = [sum(i.startswith(f"i{n}-") for i in held_out.sentence_ids) for n in range(4)]
    assert per_image == [2, 1, 0, 0]
    assert held_out.image_ids == frozenset()


def test_an_image_that_is_held_out_gives_its_only_sentence():
    held_out = choose_held_out(records(*[1] * 10), sentences_per_image=1, image_fraction=0.3, seed=0)
    assert len(held_out.image_ids) == 3
    assert held_out.sentence_ids == {f"{image_id}-0" for image_id in held_out.image_ids}


def test_the_choice_depends_on_the_seed_alone():
    def choose(seed):
        return choose_held_out(records(*[5] * 50), sentences_per_image=1, image_fraction=0.2, seed=seed)

    assert choose(1) == choose(1)
    assert choose(1) != choose(2)
    assert len(choose(1).sentence_ids) == 50
    assert len(choose(1).image_ids) == 10
    assert len({sentence_id[-1] for sentence_id in choose(1).sentence_ids}) > 1, "not always the first sentence"


def test_a_run_knows_what_its_model_was_not_trained_on(tiny_dataset, tmp_path):
    run, dataset = RunFolder(tmp_path / "run"), load_dataset(tiny_dataset)
    with pytest.raises(UserError, match="no identifier model yet.*`accelerate launch .*train_identifier.py --run "):
        held_out_of_run(run, dataset)
    settings = {"sentences_per_image": 1, "image_fraction": 0.34, "seed": 3}
    run.path.mkdir()
    run.open_stage("train_identifier", {"held_out": settings, "other": 1}, {}, tiny_dataset)
    held_out = choose_held_out(dataset.split("train"), **settings)
    assert held_out_of_run(run, dataset) == held_out
    write_held_out(run, held_out)
    assert sorted(held_out.image_ids)[0] in (run / "candidates" / "held_out.json").read_text()


def test_a_run_of_another_version_is_refused_in_a_sentence(tiny_dataset, tmp_path):
    run, dataset = RunFolder(tmp_path / "run"), load_dataset(tiny_dataset)
    run.path.mkdir()
    older = {"sentences_per_image": 1, "image_share": 0.34, "seed": 3}
    run.open_stage("train_identifier", {"held_out": older}, {}, tiny_dataset)
    with pytest.raises(UserError, match="another version .* image_share"):
        held_out_of_run(run, dataset)

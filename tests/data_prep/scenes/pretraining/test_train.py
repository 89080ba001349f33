import copy
import shutil
from dataclasses import replace

import torch

from data_prep.scenes.pretraining import train
from data_prep.scenes.pretraining.courses import Course, Term
from data_prep.scenes.pretraining.keywords import KeywordExample
from data_prep.scenes.pretraining.lesson_data import LessonData, ScenePool
from data_prep.scenes.pretraining.lesson_prompts import load_lesson_prompts
from data_prep.scenes.pretraining.model import VISUAL_TOKENS, build_model
from semcore.models.checkpoint import load_tokenizer
from semcore.runtime.packaged_files import resource_folder


def test_an_interrupted_course_ends_like_a_whole_one(tmp_path, monkeypatch):
    arguments = train._arguments
    monkeypatch.setattr(train, "_arguments", lambda *given: replace(arguments(*given), save_steps=1))
    tokenizer = load_tokenizer(resource_folder("assets") / "scenes_base")
    prompts = load_lesson_prompts(resource_folder("prompts"), tokenizer.get_added_vocab())
    example = KeywordExample(0, "a red star.", ["star"], ["star"])
    data = LessonData(
        tokenizer,
        prompts,
        ScenePool(2, seed=1),
        [example],
        ["red", "dog", "star", "of", "the", "and", "in", "to"],
        VISUAL_TOKENS,
    )
    terms = (Term(2, {"choose_words:2": (1.0, 2)}), Term(2, {"describe_image:0": (1.0, 2)}))
    course = Course(1e-2, 1, 2, terms)
    torch.manual_seed(0)
    start = build_model(tokenizer, text_layers=4, hidden_size=32)
    whole = train.train_course(copy.deepcopy(start), data, course, tmp_path / "whole", seed=5, machine=train.Machine())
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "cut" / "checkpoint-3")
    resumed = train.train_course(copy.deepcopy(start), data, course, tmp_path / "cut", seed=5, machine=train.Machine())
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight)
    assert not torch.equal(whole.get_input_embeddings().weight, start.get_input_embeddings().weight)

import random

import torch

from data_prep.scenes.pretraining import letter_exam
from data_prep.scenes.pretraining.letter_exam import draw_sets, pick_by_letter, pick_ideally, pick_words_by_letter
from semcore.models.prompts import load_prompts
from semcore.runtime.packaged_files import resource_folder


def test_each_scene_is_among_its_ten_candidates_and_so_is_its_hard_negative():
    sets = draw_sets(24, random.Random(0), hard_negatives=True)
    for one, own in enumerate(sets.candidates):
        assert len(set(own)) == 10 and {one, one ^ 1} <= set(own)
        assert sets.scenes[one] != sets.scenes[one ^ 1]
    places = {own.index(one) for one, own in enumerate(sets.candidates)}
    assert len(places) > 4


def test_hard_negatives_are_what_an_ideal_reader_cannot_always_tell_apart():
    rng = random.Random(0)
    apart = pick_ideally(draw_sets(60, rng, hard_negatives=False))
    alike = pick_ideally(draw_sets(60, rng, hard_negatives=True))
    assert all(percent > 95 for percent in apart.values())
    assert all(40 < alike[direction] < apart[direction] for direction in apart)


def test_the_best_letters_candidate_is_the_pick(monkeypatch, tiny_checkpoint):
    prompts = load_prompts(resource_folder("prompts"), tiny_checkpoint.tokenizer.get_added_vocab())
    sets = draw_sets(12, random.Random(0), hard_negatives=False)

    def know(_, direction, questions):
        right = dict(zip([text for text, _ in sets.sentences], range(12), strict=True))
        answers = [right[question.query] if direction == "t2i" else int(question.query) for question in questions]
        return [
            [float(int(choice.item_id) == answer) for choice in question.choices]
            for question, answer in zip(questions, answers, strict=True)
        ]

    monkeypatch.setattr(letter_exam, "choose", know)
    assert pick_by_letter(tiny_checkpoint, prompts, sets, random.Random(0)) == {"t2i": 100.0, "i2t": 100.0}


def test_questions_on_words_have_the_verifiers_form(monkeypatch, tiny_checkpoint):
    prompts = load_prompts(resource_folder("prompts"), tiny_checkpoint.tokenizer.get_added_vocab())
    words = [f"{first}{second}" for first in "abcdef" for second in "ghijkl"]
    texts = []

    def read(checkpoint, rows, options):
        logits = torch.zeros(len(rows), 10)
        for row, own in zip(rows, logits, strict=True):
            lines = checkpoint.tokenizer.decode(row.tokens).splitlines()
            query = next(line for line in lines if line.startswith("Sentence:")).split()[1:]
            texts.append(query)
            candidates = [line for line in lines if line[1:3] == ". "]
            own[[all(word in line for word in query) for line in candidates].index(True)] = 1
        return logits

    monkeypatch.setattr(letter_exam, "read_options", read)
    assert pick_words_by_letter(tiny_checkpoint, prompts, words, 6, random.Random(0)) == 100.0
    assert len(texts) == 6 and all(len(query) == 2 for query in texts)

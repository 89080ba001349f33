import random
from itertools import chain

import pytest

from semcore.runtime.errors import UserError
from semcore.training.identifier_pairs import Example
from semcore.training.schedule import Pairs, divide_batch, identifier_rows, plan, plan_identifier_rows

T2I = [Example([1, 2, number, 3], [number, 0]) for number in range(10, 40)]
I2T = [[Example([7, 8, 9], [number, k, 0], (f"i{number}",)) for k in range(5)] for number in range(10, 16)]


def test_an_epoch_holds_every_example_once():
    pairs = Pairs(T2I, I2T)
    rows = [
        pairs.examples(numbers) for numbers in identifier_rows(pairs, random.Random(0), max_tokens=20, image_start_id=7)
    ]
    examples = [example for row in rows for example in row]
    assert len(examples) == len(T2I) + sum(map(len, I2T))
    assert all(example in examples for example in [*T2I, *chain.from_iterable(I2T)])
    images = [{example.images for example in row} for row in rows]
    assert all(len(own) == 1 for own in images), "an image's identifiers stand together, sentences apart from them"


def planned(num_epochs=2, batch_size=8, max_steps=None, seed=0):
    return plan(
        lambda rng: rng.sample(range(100), 100), num_epochs=num_epochs, batch_size=batch_size,
        max_steps=max_steps, seed=seed, length=lambda row: row % 7,
    )  # fmt: skip


def test_steps_are_whole_and_sorted_by_length():
    rows = planned()
    assert len(rows) == 200
    for step in range(25):
        lengths = [row % 7 for row in rows[step * 8 : step * 8 + 8]]
        assert lengths == sorted(lengths, reverse=True)
    assert sorted(planned(num_epochs=1, batch_size=10)) == list(range(100))
    assert len(planned(batch_size=30)) == 180


def test_epochs_differ_and_seeds_differ():
    rows = planned(batch_size=100)
    assert rows[:100] == sorted(range(100), key=lambda row: rows.index(row))
    assert planned(batch_size=1)[:100] != planned(batch_size=1)[100:]
    assert planned(seed=1) != planned()
    assert planned(seed=1) == planned(seed=1)


def test_max_steps_stop_early_with_the_same_rows():
    assert planned(max_steps=3) == planned()[:24]
    assert len(planned(max_steps=1000)) == 200


def test_too_few_rows_for_a_step_are_repeated():
    rows = plan(lambda rng: [1, 2, 3], num_epochs=1, batch_size=8, max_steps=None, seed=0, length=lambda row: 0)
    assert rows == [1, 2, 3, 1, 2, 3, 1, 2]


def test_rows_are_made_when_they_are_asked_for():
    rows = plan_identifier_rows(
        T2I, I2T, image_start_id=7, max_tokens=20, num_epochs=1, batch_size=4, max_steps=None, seed=0
    )
    assert len(rows) % 4 == 0
    assert rows[0] == rows[0]
    assert len(rows[0].input_ids) <= 20


@pytest.mark.parametrize(
    ("batch_size", "num_processes", "largest", "expected"),
    [(32, 1, 4, (4, 8)), (32, 2, 64, (16, 1)), (12, 2, 4, (3, 2)), (7, 1, 4, (1, 7))],
)
def test_a_step_is_cut_into_equal_batches(batch_size, num_processes, largest, expected):
    rows, batches = divide_batch(batch_size, num_processes, largest)
    assert (rows, batches) == expected
    assert rows * batches * num_processes == batch_size


def test_processes_that_cannot_share_equally_are_told():
    with pytest.raises(
        UserError, match="--training.batch-size 9 cannot be shared by 2 processes; give a multiple of 2"
    ):
        divide_batch(9, 2, 4)

import itertools

import numpy as np
import pytest

from semcore.evaluation.order_bias import Reordered, draw_orders, order_bias, reorder
from semcore.verification import Choice, Question

NUM_CHOICES = 4
NAMES = [f"c{number}" for number in range(NUM_CHOICES)]
QUESTION = Question("q", tuple(Choice(name, "") for name in NAMES))


def answers_of(verifier, num_queries=6, num_orders=3):
    """Score with a verifier, a function of the names in their order; the relevant one differs by query."""
    answers = []
    for number in range(num_queries):
        right = number % NUM_CHOICES
        orders = draw_orders(NUM_CHOICES, num_orders, str(number))
        asked = [[choice.item_id for choice in question.choices] for question in reorder(QUESTION, orders)]
        scores = np.array([verifier(names, NAMES[right]) for names in asked])
        answers.append(Reordered(orders, right, scores.reshape(num_orders, NUM_CHOICES, NUM_CHOICES)))
    return answers


def slow_figures(answers, num_shifts):
    """The same by loops over picks: every start, every position, every pair of orders."""
    right_at = {position: [] for position in range(NUM_CHOICES)}
    agreements = []
    for answer in answers:
        picks = []
        for order, scores in zip(answer.orders.tolist(), answer.scores, strict=True):
            for start in range(NUM_CHOICES):
                total = dict.fromkeys(range(NUM_CHOICES), 0.0)
                for shift in range(num_shifts):
                    rotation = (start + shift * NUM_CHOICES // num_shifts) % NUM_CHOICES
                    for letter, choice in enumerate(order[rotation:] + order[:rotation]):
                        total[choice] += scores[rotation][letter]
                pick = max(total, key=total.__getitem__)
                asked = order[start:] + order[:start]
                right_at[asked.index(answer.right)].append(pick == answer.right)
                picks.append((order, pick))
        pairs = itertools.combinations(picks, 2)
        agreements += [one == other for (o, one), (p, other) in pairs if o is not p]
    by_position = [100 * np.mean(right_at[position]) for position in range(NUM_CHOICES)]
    return by_position, 100 * np.mean(agreements)


@pytest.mark.parametrize("num_shifts", [1, 2, 3, 4])
def test_figures_equal_counting(num_shifts):
    rng = np.random.default_rng(0)
    answers = answers_of(lambda names, right: rng.normal(size=NUM_CHOICES) + 2 * (np.array(names) == right))
    by_position, agreement = slow_figures(answers, num_shifts)
    figures = order_bias(answers, num_shifts)
    assert figures["accuracy_by_position"] == pytest.approx(by_position, abs=0.01)
    assert figures["accuracy"] == pytest.approx(np.mean(by_position), abs=0.01)
    assert figures["spread"] == pytest.approx(np.std(by_position), abs=0.01)
    assert figures["agreement"] == pytest.approx(agreement, abs=0.01)
    assert figures["shifts"] == num_shifts


def test_always_choosing_b_is_correct_where_b_is_relevant():
    figures = order_bias(answers_of(lambda names, right: np.eye(NUM_CHOICES)[1]), 1)
    assert figures["accuracy_by_position"] == [0, 100, 0, 0]
    assert (figures["accuracy"], figures["spread"]) == (25.0, pytest.approx(43.3, abs=0.01))


def test_a_verifier_of_contents_alone_has_no_bias():
    figures = order_bias(answers_of(lambda names, right: [name == right for name in names]), 1)
    assert figures == {
        "shifts": 1, "accuracy": 100.0, "accuracy_by_position": [100.0] * 4, "spread": 0.0, "agreement": 100.0,
    }  # fmt: skip


def test_all_shifts_cure_a_liking_for_letters():
    liking = np.array([3.0, 1.0, 0.0, -1.0])

    def verifier(names, right):
        return liking + [2.0 * (name == right) for name in names]

    biased, cured = (order_bias(answers_of(verifier), num_shifts) for num_shifts in (1, NUM_CHOICES))
    assert biased["accuracy_by_position"] == [100, 0, 0, 0] or biased["spread"] > 40
    assert (cured["accuracy"], cured["spread"], cured["agreement"]) == (100.0, 0.0, 100.0)


def test_orders_are_drawn_anew_for_every_query_and_the_same_at_every_call():
    assert draw_orders(10, 2, "a").tolist() == draw_orders(10, 2, "a").tolist()
    assert draw_orders(10, 2, "a").tolist() != draw_orders(10, 2, "b").tolist()
    assert [sorted(order) for order in draw_orders(10, 2, "a").tolist()] == [list(range(10))] * 2

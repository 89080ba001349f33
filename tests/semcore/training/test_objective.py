"""Losses of neighbouring papers on packed rows, against one pass an example and loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from semcore.models.layer_fusion import new_layer_fusion
from semcore.models.set_head import SET_HEAD, SetHead, attach_set_head
from semcore.training.chunked_loss import chunked_loss
from semcore.training.identifier_pairs import Example
from semcore.training.objective import Objective, Ranking
from semcore.training.packing import merge
from semcore.training.ranking_loss import ranking_loss
from semcore.training.rdrop import dropout
from tests.semcore.training.tiny_model import (
    END,
    IMAGE_START,
    VOCABULARY,
    build,
    collate,
    examples_and_features,
    packed_rows,
    read_alone,
)

UNITS = 11
CHUNKS = (None, 7)


@pytest.fixture(scope="module")
def model() -> Any:
    built = build()
    torch.manual_seed(3)
    attach_set_head(built, SetHead([f"unit{n}" for n in range(UNITS)], 32))
    with torch.no_grad():
        new_layer_fusion(built, 2).scales.fill_(0.5)  # every loss reads what the fusion made
    return built


def loss_of(
    model: Any, batch: dict[str, Any], objective: Objective, positions: int | None, **more: Any
) -> torch.Tensor:
    size = {} if positions is None else {"elements_per_chunk": positions * VOCABULARY}
    with chunked_loss(model, objective=objective, **size):
        loss: torch.Tensor = model(**batch, **more).loss
    return loss


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}


def assert_equal_with_gradients(model: Any, found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    ours, theirs = gradients(model, found), gradients(model, expected)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("positions", CHUNKS)
def test_the_temperature_divides_the_logits(model: Any, positions: int | None) -> None:
    examples, features = examples_and_features()
    batch = collate(packed_rows(examples), features)
    logits = model(**batch).logits.flatten(0, 1) / 0.5
    expected = torch.nn.functional.cross_entropy(logits, batch["shift_labels"].flatten())
    assert_equal_with_gradients(model, loss_of(model, batch, Objective(temperature=0.5), positions), expected)


@pytest.mark.parametrize("pool", ["max", "last"])
@pytest.mark.parametrize("kind", ["codes", "items"])
@pytest.mark.parametrize("positions", CHUNKS)
def test_the_set_heads_loss_is_that_of_each_prompt_alone(model: Any, kind: Any, pool: Any, positions: Any) -> None:
    examples, features = examples_and_features(UNITS)
    examples[4] = Example(examples[4].prompt, examples[4].answer)  # without a query: nothing is said of its item
    examples[5] = Example(examples[5].prompt, examples[5].answer, units=examples[6].units[::-1])  # the same item
    head = model.get_submodule(SET_HEAD)
    head.pool = pool
    logits, total, entropy, labels = {}, torch.zeros(()), torch.zeros(()), 0
    for number, example in enumerate(examples):
        states, log_probs = read_alone(model, example, features)
        pooled = states.max(0).values if pool == "max" else states[-1]
        logits[number] = head.linear.weight @ pooled + head.linear.bias
        entropy, labels = entropy - log_probs.sum(), labels + len(example.answer)
    different = list(dict.fromkeys(frozenset(example.units) for example in examples if example.units))
    for number, example in enumerate(examples):
        if not example.units:
            continue
        if kind == "codes":
            probabilities = torch.softmax(logits[number], 0)
            loss = sum(-probabilities[unit].log() for unit in example.units) / len(example.units)
        else:
            weights = torch.log(1 + torch.relu(logits[number]))
            scores = torch.stack([weights[list(own)].sum() for own in different])
            loss = -torch.softmax(scores, 0)[different.index(frozenset(example.units))].log()
        total = total + len(example.answer) * loss
    objective = Objective(set_weight=0.3, set_loss=kind)
    found = loss_of(model, collate(packed_rows(examples), features), objective, positions)
    assert_equal_with_gradients(model, found, (entropy + 0.3 * total) / labels)


@pytest.mark.parametrize("positions", CHUNKS)
def test_rdrop_compares_two_passes_that_drop_different_things_out(model: Any, positions: int | None) -> None:
    examples, features = examples_and_features()
    rows = packed_rows(examples)
    batch = collate(rows, features, num_copies=2)
    with dropout(model, 0.2):
        torch.manual_seed(5)
        logits = model(**batch).logits
        torch.manual_seed(5)  # the same masks
        found = loss_of(model, batch, Objective(rdrop=0.15), positions)
        first, second = logits.chunk(2)
        assert not torch.equal(first, second)
        entropy, divergence, count = torch.zeros(()), torch.zeros(()), 0
        for row, labels in enumerate(batch["shift_labels"].chunk(2)[0]):
            for place in (labels != -100).nonzero()[:, 0].tolist():
                p, q = first[row, place].softmax(-1), second[row, place].softmax(-1)
                entropy = entropy - p[labels[place]].log() - q[labels[place]].log()
                divergence = divergence + (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
                count += 1
        assert_equal_with_gradients(model, found, entropy / (2 * count) + 0.15 * divergence / count)
    assert divergence > 0.01


def test_passes_are_equal_without_dropout_and_in_evaluation(model: Any) -> None:
    examples, features = examples_and_features()
    batch = collate(packed_rows(examples), features, num_copies=2)
    plain = loss_of(model, collate(packed_rows(examples), features), Objective(), None)
    torch.testing.assert_close(loss_of(model, batch, Objective(rdrop=5.0), None), plain, atol=1e-6, rtol=1e-6)
    with dropout(model, 0.5):
        assert (loss_of(model, batch, Objective(rdrop=5.0), None) - plain).abs() > 0.1
        model.eval()
        torch.testing.assert_close(loss_of(model, batch, Objective(rdrop=5.0), None), plain, atol=1e-6, rtol=1e-6)
    model.train()
    torch.testing.assert_close(loss_of(model, batch, Objective(), None), plain, atol=1e-6, rtol=1e-6)


def queries_with_candidates(loss: str) -> tuple[list[list[Example]], list[int]]:
    """Four queries with one or two right identifiers and none to three found ones (one or none for the hinge)."""
    examples, _ = examples_and_features()
    answers = [[20 + n, *range(40, 40 + n % 4), END] for n in range(20)]
    found = (3, 0, 2, 1) if loss == "contrastive" else (1, 0, 1, 1)
    groups, rights, start = [], [], 0
    for number, wrong in enumerate(found):
        right = 2 if number == 2 else 1
        query = examples[12] if number == 3 else examples[number]  # an image among the sentences
        groups.append([Example(query.prompt, answers[start + k], query.images) for k in range(right + wrong)])
        rights.append(right)
        start += right + wrong
    return groups, rights


@pytest.mark.parametrize("loss", ["contrastive", "hinge"])
@pytest.mark.parametrize("positions", CHUNKS)
def test_the_ranking_loss_is_that_of_each_candidate_alone(model: Any, loss: Any, positions: int | None) -> None:
    _, features = examples_and_features()
    groups, rights = queries_with_candidates(loss)
    rows = [replace(merge(own, IMAGE_START), num_right=right) for own, right in zip(groups, rights, strict=True)]
    batch = collate(rows, features)
    entropy, labels, total = torch.zeros(()), 0, torch.zeros(())
    for group, right in zip(groups, rights, strict=True):
        scores = torch.stack([read_alone(model, example, features)[1].sum() for example in group])
        entropy, labels = entropy - scores[:right].sum(), labels + sum(len(e.answer) for e in group[:right])
        if loss == "contrastive":
            total = total - torch.softmax(scores / 2, 0)[:right].sum().log()
        elif len(group) > right:
            total = total + torch.relu(scores[right] - scores[:right].exp().sum().log() + 3)
    assert (batch["labels"] != -100).sum() == labels < (batch["shift_labels"] != -100).sum()
    ranking = Ranking(loss, weight=0.5, temperature=2.0, margin=3.0)
    found = loss_of(model, batch, Objective(ranking=ranking), positions)
    assert_equal_with_gradients(model, found, entropy / labels + 0.5 * total / 4)
    ranking = Ranking(loss, weight=0.5, temperature=2.0, margin=3.0, num_queries=10)
    part = loss_of(model, batch, Objective(ranking=ranking), positions, num_items_in_batch=torch.tensor(50))
    torch.testing.assert_close(part, entropy / 50 + 0.5 * total / 10, atol=1e-5, rtol=1e-5)


def test_a_ranking_loss_by_hand() -> None:
    """Probabilities 0.5 and 0.3 of which the first is right, and a query to which nothing wrong was found."""
    scores = torch.tensor([math.log(0.5), math.log(0.3), math.log(0.01)])
    query, right = torch.tensor([0, 0, 2]), torch.tensor([True, False, True])
    assert ranking_loss(scores, query, right, Ranking()).item() == pytest.approx(-math.log(0.5 / 0.8))
    hinge = ranking_loss(scores, query, right, Ranking("hinge", margin=1.0)).item()
    assert hinge == pytest.approx(math.log(0.3) - math.log(0.5) + 1)


def test_a_right_one_far_behind_still_has_a_gradient() -> None:
    """Five nats behind, a softmax over a softmax leaves a thousandth of it."""
    scores = torch.tensor([-5.0, *[0.0] * 10], requires_grad=True)
    ranking_loss(scores, torch.zeros(11, dtype=torch.long), torch.arange(11) == 0, Ranking()).backward()
    assert scores.grad is not None and scores.grad[0] < -0.99


def test_micro_batches_of_a_step_sum_up_to_the_step(model: Any) -> None:
    """With the labels of the whole step given, halves add up: so do processes and accumulated micro batches."""
    examples, features = examples_and_features(UNITS)
    rows = packed_rows(examples)
    count = torch.tensor(sum(len(example.answer) for example in examples))
    objective = Objective(set_weight=0.3)
    whole = loss_of(model, collate(rows, features), objective, None)
    halves = [collate(own, features) for own in (rows[:2], rows[2:])]
    parts = sum(loss_of(model, half, objective, None, num_items_in_batch=count) for half in halves)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)

"""The RQ-VAE's losses by hand, where their gradients go, and what training does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from semcore.identifiers.code_settings import QuantizerSettings
from semcore.identifiers.residual import encode
from semcore.identifiers.rqvae import RQVAE, fit_rqvae, numpy_functions, quantiser_loss, total_loss

KMEANS = {"num_inits": 1, "max_iterations": 50, "max_fit_items": 1000}
VECTORS = torch.tensor([[1.0, 0.0], [0.0, 2.0]])


def settings(**changes: Any) -> QuantizerSettings:
    own = {"kind": "rq-vae", "num_levels": 2, "num_codes": 2, "dim": 2, "layers": [], "num_steps": 100, **changes}
    return QuantizerSettings(**own)


def last_layer(part: torch.nn.Sequential) -> torch.nn.Linear:
    layer = part[-1]
    assert isinstance(layer, torch.nn.Linear)
    return layer


def identity_model(own: QuantizerSettings) -> RQVAE:
    """Return a model whose encoder and decoder change nothing, with codes (1, 0), (0, 1), then (0, 1), (0.5, 0)."""
    model = RQVAE(2, own)
    with torch.no_grad():
        for layer in map(last_layer, (model.encoder, model.decoder)):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        books = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.5, 0.0]]])
        model.books.copy_(books[:1] if own.shared else books)
    return model


def test_losses_by_hand() -> None:
    """(1, 0) -> (1, 0), then of the rest (0, 0) the nearer (0.5, 0); (0, 2) -> (0, 1), then (0, 1) -> (0, 1)."""
    own = settings(commitment=0.25)
    model = identity_model(own)
    rows, rests = model.quantise(VECTORS)
    assert rows.tolist() == [[[1, 0], [0.5, 0]], [[0, 1], [0, 1]]]
    assert rests.tolist() == [[[1, 0], [0, 0]], [[0, 2], [0, 1]]]
    # squared differences: 0; 0.25; 1; 0, over 2 vectors x 2 levels x 2 coordinates
    assert quantiser_loss(rows, rests, 0.25).item() == pytest.approx(1.25 * 1.25 / 8)
    # rebuilt (1.5, 0) and (0, 2): 0.25 over 2 vectors x 2 coordinates
    assert total_loss(model, VECTORS, None, own).item() == pytest.approx(0.25 / 4 + 1.25 * 1.25 / 8)
    said = torch.tensor([[1.5, 1.0], [0.0, 2.0]])  # rebuilt misses the first by (0, 1)
    aligned = settings(commitment=0.25, align=2.0)
    assert total_loss(model, VECTORS, said, aligned).item() == pytest.approx(0.25 / 4 + 1.25 * 1.25 / 8 + 2 * 1 / 4)


def test_a_shared_book_serves_both_levels() -> None:
    model = identity_model(settings(shared=True))
    rows, _ = model.quantise(VECTORS)
    assert rows.tolist() == [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]  # of the rest (0, 0) both are as near: the first
    assert model.books.shape == (1, 2, 2)


def test_gradients_stop_where_they_should() -> None:
    """The first part moves books alone, the second the encoder alone; the decoder's reaches the encoder, not books."""
    model = identity_model(settings())
    for part, moved in (("books", "books"), ("commitment", "encoder"), ("decoder", "encoder")):
        model.zero_grad()
        latent = model.encoder(VECTORS)
        rows, rests = model.quantise(latent)
        if part == "decoder":
            (latent + (rows.sum(1) - latent).detach()).sum().backward()
        elif part == "books":
            quantiser_loss(rows, rests, 0.0).backward()
        else:
            (quantiser_loss(rows, rests, 1.0) - quantiser_loss(rows, rests, 0.0)).backward()
        gradients = {"books": model.books.grad, "encoder": last_layer(model.encoder).weight.grad}
        got = {name for name, gradient in gradients.items() if gradient is not None and gradient.abs().sum() > 1e-9}
        assert got == {moved}, part


def pairs(num: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    said = rng.normal(size=(num, 6)).astype(np.float32)
    return said + rng.normal(size=(num, 6)).astype(np.float32), said


def rebuilt(state: dict[str, np.ndarray], own: QuantizerSettings, vectors: np.ndarray) -> np.ndarray:
    latent, output = numpy_functions(state, own, vectors.shape[1])
    books = np.broadcast_to(state["books"], (own.num_levels, *state["books"].shape[1:]))
    codes = encode(latent(vectors), books)
    return output(sum(books[level][codes[:, level]] for level in range(own.num_levels)))


@pytest.mark.parametrize("shared", [False, True])
def test_one_seed_gives_one_result_and_training_lowers_the_error(shared: bool) -> None:
    vectors, _ = pairs()
    own = settings(
        num_codes=8, dim=4, layers=[16], shared=shared, batch_size=32, dropout=0.1, num_steps=60, learning_rate=0.01
    )
    first, again = (fit_rqvae(vectors, None, own, seed=3, kmeans=KMEANS) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    short = fit_rqvae(vectors, None, settings(**{**vars(own), "num_steps": 1}), seed=3, kmeans=KMEANS)
    errors = [((rebuilt(state, own, vectors) - vectors) ** 2).mean() for state in (short, first)]
    assert errors[1] < 0.8 * errors[0]
    assert first["books"].shape == (1 if shared else 2, 8, 4)


def test_alignment_rebuilds_nearer_to_sentences() -> None:
    vectors, said = pairs()
    errors = {}
    for align in (0.0, 4.0):
        own = settings(num_codes=16, dim=6, layers=[16], align=align, num_steps=80)
        errors[align] = (
            (rebuilt(fit_rqvae(vectors, said, own, seed=0, kmeans=KMEANS), own, vectors) - said) ** 2
        ).mean()
    assert errors[4.0] < errors[0.0]


def test_codes_of_image_and_sentence_are_drawn_together() -> None:
    vectors, said = pairs()
    distances = {}
    for align in (0.0, 8.0):
        own = settings(num_codes=8, dim=4, layers=[16], align=align, align_at="codes", num_steps=80, learning_rate=0.01)
        state = fit_rqvae(vectors, said, own, seed=0, kmeans=KMEANS)
        latent, _ = numpy_functions(state, own, 6)
        spread = latent(vectors).std()
        distances[align] = np.abs(latent(vectors) - latent(said)).mean() / spread
    assert distances[8.0] < distances[0.0]


def test_a_trained_quantiser_does_not_disturb_other_random_numbers() -> None:
    vectors, _ = pairs(20)
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    fit_rqvae(vectors, None, settings(num_steps=2), seed=0, kmeans=KMEANS)
    assert torch.rand(1).item() == expected

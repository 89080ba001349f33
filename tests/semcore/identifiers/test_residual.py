"""Residual quantisation beside a loop over items and levels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from semcore.identifiers.code_settings import CodeSettings, QuantizerSettings
from semcore.identifiers.quantizers import fit_quantizer, load_quantizer
from semcore.identifiers.residual import decode, encode, fit_residual_books, last_codes, nearest_rows
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_bytes, write_json

KMEANS = {"num_inits": 1, "max_iterations": 50, "max_fit_items": 1000}
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(60, 6)).astype(np.float32)
BOOKS = RNG.normal(size=(3, 5, 6)).astype(np.float32)


def slow_codes(vector: np.ndarray, books: np.ndarray, first: int | None = None) -> list[int]:
    """Return a vector's codes, one level after another."""
    rest, codes = vector.astype(np.float64), []
    for level, book in enumerate(books):
        distances = [float(((rest - row) ** 2).sum()) for row in book]
        code = int(np.argmin(distances)) if first is None or level else first
        codes.append(code)
        rest = rest - book[code]
    return codes


def test_codes_are_those_of_a_loop() -> None:
    assert encode(VECTORS, BOOKS).tolist() == [slow_codes(vector, BOOKS) for vector in VECTORS]
    first = RNG.integers(0, 5, len(VECTORS))
    given = [slow_codes(vector, BOOKS, int(code)) for vector, code in zip(VECTORS, first, strict=True)]
    assert encode(VECTORS, BOOKS, first).tolist() == given


def test_decoding_sums_the_rows() -> None:
    codes = encode(VECTORS, BOOKS)
    sums = [sum(BOOKS[level, code] for level, code in enumerate(own)) for own in codes.tolist()]
    np.testing.assert_allclose(decode(codes, BOOKS), np.array(sums), rtol=1e-5)


def test_every_level_leaves_less() -> None:
    books = fit_residual_books(VECTORS, 3, 8, seed=0, **KMEANS)
    assert books.shape == (3, 8, 6)
    left = [((VECTORS - decode(encode(VECTORS, books[:m]), books[:m])) ** 2).sum() for m in (1, 2, 3)]
    assert left[0] > left[1] > left[2]
    np.testing.assert_array_equal(books, fit_residual_books(VECTORS, 3, 8, seed=0, **KMEANS))


def test_other_last_codes_come_nearest_first() -> None:
    codes = encode(VECTORS, BOOKS)
    for vector, own in zip(VECTORS[:10], codes, strict=False):
        rest = vector - BOOKS[0, own[0]] - BOOKS[1, own[1]]
        order = np.argsort([((rest - row) ** 2).sum() for row in BOOKS[2]])
        assert last_codes(vector, own, BOOKS).tolist() == order.tolist()
        assert last_codes(vector, own, BOOKS)[0] == own[2]


def test_nearest_rows_are_in_order() -> None:
    distances = ((VECTORS[:, None] - BOOKS[0][None]) ** 2).sum(2)
    assert nearest_rows(VECTORS, BOOKS[0], 3).tolist() == np.argsort(distances, axis=1)[:, :3].tolist()


def test_codes_are_those_of_the_library() -> None:
    library = pytest.importorskip("vector_quantize_pytorch", reason="the peer is not installed")
    torch = pytest.importorskip("torch")
    peer = library.ResidualVQ(dim=6, num_quantizers=3, codebook_size=5, rotation_trick=False)
    for layer, book in zip(peer.layers, BOOKS, strict=True):
        layer._codebook.embed.data.copy_(torch.from_numpy(book)[None])
        layer._codebook.initted.data.fill_(True)
    with torch.no_grad():
        codes = peer.eval()(torch.from_numpy(VECTORS)[None])[1][0].numpy()
    assert encode(VECTORS, BOOKS).tolist() == codes.tolist()


@pytest.mark.parametrize("kind", ["rq-kmeans", "rq-vae"])
def test_a_kept_quantiser_gives_the_same_codes(kind: Literal["rq-kmeans", "rq-vae"], tmp_path: Path) -> None:
    from safetensors.numpy import save

    own = QuantizerSettings(kind=kind, num_levels=2, num_codes=4, layers=[8], dim=4, num_steps=5)
    made = fit_quantizer(VECTORS, None, CodeSettings(quantizer=own), seed=0)
    write_bytes(tmp_path / "quantizer.safetensors", save({k: np.array(v) for k, v in made.arrays.items()}))
    write_json(tmp_path / "quantizer.json", made.settings)
    again = load_quantizer(tmp_path)
    codes = encode(made.latent(VECTORS), made.books)
    np.testing.assert_array_equal(encode(again.latent(VECTORS), again.books), codes)
    np.testing.assert_allclose(again.rebuilt(codes), made.rebuilt(codes), rtol=1e-6)
    (tmp_path / "quantizer.safetensors").unlink()
    with pytest.raises(UserError, match="holds no quantiser; make the identifiers again"):
        load_quantizer(tmp_path)

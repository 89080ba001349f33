"""Quantisers: vectors in, codes out, and back; kept in RUN/identifiers for items that come later.

Shapes: N vectors of d dimensions, codebooks (M, C, e), codes (N, M).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from semcore.identifiers.code_settings import CodeSettings, QuantizerSettings
from semcore.identifiers.residual import decode, fit_residual_books
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

ARRAYS, SETTINGS = "quantizer.safetensors", "quantizer.json"


@dataclass(frozen=True)
class Quantizer:
    """A fitted quantiser.

    Attributes:
        books: (M, C, e); the same rows at every level where one book is shared.
        shared: whether it is.
        latent: vectors (N, d) -> what is quantised (N, e).
        output: sums of rows (N, e) -> vectors (N, d).
        arrays: the state, by name.
        settings: what builds it again around the state.
    """

    books: np.ndarray
    shared: bool
    latent: Callable[[np.ndarray], np.ndarray]
    output: Callable[[np.ndarray], np.ndarray]
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def rebuilt(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (N, d) that codes (N, M) stand for."""
        return self.output(decode(codes, self.books))


def fit_quantizer(
    vectors: np.ndarray,
    sentences: np.ndarray | None,
    settings: CodeSettings,
    *,
    seed: int,
    device: str | None = None,
    progress: bool = False,
) -> Quantizer:
    """Fit a quantiser.

    Args:
        vectors: (N, d), of what may be learnt from.
        sentences: (N, d), a sentence's vector for each; only alignment needs them.
        settings: of the quantiser and of k-means.
        seed: of everything random.
        device: where an RQ-VAE is trained.
        progress: show a progress bar.

    Raises:
        UserError: fewer vectors than codes.
    """
    own = settings.quantizer
    require_enough(own, len(vectors))
    kmeans = {name: getattr(settings, name) for name in ("num_inits", "max_iterations", "max_fit_items")}
    if own.kind == "rq-vae":
        from semcore.identifiers.rqvae import fit_rqvae

        return rqvae_quantizer(
            fit_rqvae(vectors, sentences, own, seed=seed, kmeans=kmeans, device=device, progress=progress),
            own, vectors.shape[1],
        )  # fmt: skip
    books = fit_residual_books(vectors, own.num_levels, own.num_codes, seed=seed, **kmeans)
    return kmeans_quantizer(books)


def require_enough(settings: QuantizerSettings, num_vectors: int) -> None:
    """Refuse more codes than vectors to learn them from.

    Raises:
        UserError: names both.
    """
    if num_vectors < settings.num_codes:
        raise UserError(
            f"{settings.num_codes} codes a level need at least as many images to learn from, found {num_vectors}; "
            f"choose --quantizer.num-codes {num_vectors} or less"
        )


def kmeans_quantizer(books: np.ndarray) -> Quantizer:
    """Return the quantiser of codebooks (M, C, d) in the space of the vectors themselves."""
    return Quantizer(books, False, np.asarray, np.asarray, {"books": books}, {"kind": "rq-kmeans"})


def rqvae_quantizer(state: Mapping[str, np.ndarray], settings: QuantizerSettings, dimensions: int) -> Quantizer:
    """Return the quantiser of an RQ-VAE's weights, name -> array (any shape), for vectors of so many dimensions."""
    from semcore.identifiers.rqvae import numpy_functions

    latent, output = numpy_functions(state, settings, dimensions)
    books = np.broadcast_to(state["books"], (settings.num_levels, *state["books"].shape[1:]))
    kept = {**asdict(settings), "dimensions": dimensions}
    return Quantizer(books, settings.shared, latent, output, state, kept)


def load_quantizer(folder: Path) -> Quantizer:
    """Read the quantiser of RUN/identifiers.

    Raises:
        UserError: the files are missing or broken.
    """
    content = read_json(folder / SETTINGS)
    try:
        arrays = load_file(folder / ARRAYS)
        if content["kind"] == "rq-kmeans":
            return kmeans_quantizer(arrays["books"])
        dimensions = int(content.pop("dimensions"))
        return rqvae_quantizer(arrays, QuantizerSettings(**content), dimensions)
    except (KeyError, TypeError, OSError, SafetensorError):
        raise UserError(f"{folder / ARRAYS} holds no quantiser; make the identifiers again") from None

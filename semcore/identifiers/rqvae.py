"""RQ-VAE: an autoencoder whose code is quantised, residual by residual (AVG, section 3.1; CART, section 3.2).

For a vector v and, if aligned, the vector t of a sentence, with r_1 = E(v):

    k_j = argmin_n ||r_j - C_n||^2,   e_j = C_k_j,   r_j+1 = r_j - e_j,   z = sum_j e_j,   v' = D(z), straight through
    loss = mse(v', v) + mean_j (mse(e_j, sg r_j) + commitment * mse(sg e_j, r_j)) + align * mse(v', t)

The middle term is that of AVG's code: its equation 4 alone gives the codebook no gradient. No library has this loss;
encoding is that of any residual quantiser.

Shapes: B vectors of d dimensions, codebooks (M or 1, C, e), codes (B, M).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss
from tqdm import tqdm

from semcore.identifiers.code_settings import QuantizerSettings
from semcore.identifiers.residual import fit_residual_books

FITTED_PER_CODE = 100  # ours: of a first batch, as AVG takes, many codes are of the same few images
Functions = tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]


class RQVAE(nn.Module):
    """Encoder, codebooks and decoder."""

    def __init__(self, dimensions: int, settings: QuantizerSettings):
        super().__init__()
        widths = [dimensions, *settings.layers, settings.dim]
        self.encoder = _layers(widths, settings.dropout)
        self.decoder = _layers(widths[::-1], settings.dropout)
        num_books = 1 if settings.shared else settings.num_levels
        self.books = nn.Parameter(torch.zeros(num_books, settings.num_codes, settings.dim))
        self.num_levels = settings.num_levels

    def quantise(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the chosen rows and the residuals before each level, both (B, M, e); latent (B, e)."""
        rest, rows, rests = latent, [], []
        for book in self.books.expand(self.num_levels, -1, -1):
            with torch.no_grad():
                nearest = ((book**2).sum(1) - 2 * rest @ book.T).argmin(1)
            rows.append(book[nearest])
            rests.append(rest)
            rest = rest - rows[-1].detach()
        return torch.stack(rows, 1), torch.stack(rests, 1)


def quantiser_loss(rows: torch.Tensor, rests: torch.Tensor, commitment: float) -> torch.Tensor:
    """Return the mean over levels of what pulls codes to residuals, and residuals to codes.

    Args:
        rows: (B, M, e), the chosen rows.
        rests: (B, M, e), the residuals before each level.
        commitment: weight of the second.

    Returns:
        A scalar ().
    """
    return mse_loss(rows, rests.detach()) + commitment * mse_loss(rests, rows.detach())


def total_loss(
    model: RQVAE, vectors: torch.Tensor, sentences: torch.Tensor | None, settings: QuantizerSettings
) -> torch.Tensor:
    """Return the loss of a batch, a scalar ().

    Args:
        model: the autoencoder.
        vectors: (B, d).
        sentences: (B, d), where `settings.align` is above 0.
        settings: the weights.
    """
    latent = model.encoder(vectors)
    rows, rests = model.quantise(latent)
    rebuilt = model.decoder(_straight_through(latent, rows))
    loss = mse_loss(rebuilt, vectors) + quantiser_loss(rows, rests, settings.commitment)
    if not settings.align or sentences is None:
        return loss
    if settings.align_at == "output":
        return loss + settings.align * mse_loss(rebuilt, sentences)
    said = model.encoder(sentences)
    own, own_rests = model.quantise(said)
    loss = loss + quantiser_loss(own, own_rests, settings.commitment)
    return loss + settings.align * mse_loss(_straight_through(latent, rows), _straight_through(said, own))


def fit_rqvae(
    vectors: np.ndarray,
    sentences: np.ndarray | None,
    settings: QuantizerSettings,
    *,
    seed: int,
    kmeans: Mapping[str, int],
    device: str | None = None,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Train an RQ-VAE and return its weights, name -> array (any shape).

    The codebooks start at residual k-means of the first encoder's outputs. One device and number of threads, one seed:
    one result.

    Args:
        vectors: (N, d).
        sentences: (N, d), a sentence's vector for each, for alignment.
        settings: of the quantiser.
        seed: of the weights and batches.
        kmeans: further arguments of `fit_centroids`.
        device: where it is trained; by default the CPU.
        progress: show a progress bar.
    """
    place = torch.device(device or "cpu")
    given = torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).to(place)
    said = None if sentences is None else torch.from_numpy(np.ascontiguousarray(sentences, np.float32)).to(place)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        model = RQVAE(given.shape[1], settings).to(place)
        _start_books(model, given, settings, seed, kmeans)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
        draw = torch.Generator().manual_seed(seed)
        model.train()
        for _ in tqdm(range(settings.num_steps), desc="training the RQ-VAE", unit="step", disable=not progress):
            size = min(settings.batch_size, len(given))
            chosen = torch.randperm(len(given), generator=draw)[:size].to(place)
            loss = total_loss(model, given[chosen], None if said is None else said[chosen], settings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}


def numpy_functions(state: Mapping[str, np.ndarray], settings: QuantizerSettings, dimensions: int) -> Functions:
    """Return encoder and decoder as functions of arrays, (N, d) -> (N, e) and (N, e) -> (N, d), on the CPU."""
    model = RQVAE(dimensions, settings).eval()
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})

    def run(part: nn.Module, values: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return part(torch.from_numpy(np.ascontiguousarray(values, np.float32))).numpy()

    return (lambda values: run(model.encoder, values)), (lambda values: run(model.decoder, values))


def _start_books(
    model: RQVAE, vectors: torch.Tensor, settings: QuantizerSettings, seed: int, kmeans: Mapping[str, int]
) -> None:
    """Fill the codebooks by residual k-means; a shared one has an equal part of its rows from every level."""
    chosen = np.random.default_rng(seed).permutation(len(vectors))[: FITTED_PER_CODE * settings.num_codes]
    with torch.no_grad():
        latent = model.eval().encoder(vectors[torch.from_numpy(np.sort(chosen)).to(vectors.device)]).cpu().numpy()
    levels = settings.num_levels
    num_rows = -(-settings.num_codes // levels) if settings.shared else settings.num_codes
    books = fit_residual_books(latent, levels, num_rows, seed=seed, **kmeans)
    if settings.shared:
        books = books.transpose(1, 0, 2).reshape(1, -1, books.shape[2])[:, : settings.num_codes]
    with torch.no_grad():
        model.books.copy_(torch.from_numpy(np.ascontiguousarray(books)))


def _straight_through(latent: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the sum of the rows, with the gradient of the latent."""
    return latent + (rows.sum(1) - latent).detach()


def _layers(widths: list[int], dropout: float) -> nn.Sequential:
    """Return linear layers with ReLU between them, and dropout before each (AVG's code)."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(widths)):
        linear = nn.Linear(before, after)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.ReLU()] * (place > 0) + [nn.Dropout(dropout)] * (dropout > 0) + [linear]
    return nn.Sequential(*layers)

"""Settings of identifier schemes that write codes: AVG's vokens, CART's coarse-fine, GRACE's hierarchical k-means.

Sources are the papers of AVG (arXiv 2407.17274), CART (arXiv 2406.17507) and GRACE (arXiv 2402.10805), and their code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from semcore.data.identifier_tokens import TokenInit
from semcore.runtime.errors import UserError
from semcore.runtime.settings import option

Collisions = Literal["share", "count", "next"]
"""What happens where two items have the same codes."""


@dataclass
class QuantizerSettings:
    """How vectors become codes: by k-means over residuals, or by an autoencoder with codebooks (RQ-VAE)."""

    help_sections: ClassVar = {"shared": "rq-vae"}

    kind: Literal["rq-kmeans", "rq-vae"] = "rq-kmeans"  # ours: seconds; the papers train an RQ-VAE, rarely better here
    """Residual k-means, or an RQ-VAE, which is trained."""
    num_levels: int = 4  # AVG, section 4.6.2
    """Codes an item."""
    num_codes: int = 1024  # AVG, Table 4
    """Codes a level can be."""
    shared: bool = False  # ours: AVG shares one codebook over the levels, CART has one a level
    """One codebook for all levels."""
    dim: int = 64  # CART, appendix C
    """Dimensions of the codebooks."""
    layers: list[int] = field(default_factory=lambda: [512, 256, 128])  # CART, appendix C
    """Widths of the encoder's layers; the decoder has them in reverse."""
    dropout: float = 0.0  # ours; AVG 0.25
    """Dropout before each layer, in training."""
    commitment: float = 0.25  # AVG's code
    """Weight of the loss that keeps the encoder near its codes."""
    align: float = 0.0  # ours: AVG 1.0, which pulls an image's codes to what its sentences say
    """Weight of the loss between what is rebuilt and the vector of a sentence of the image."""
    align_at: Literal["output", "codes"] = "output"  # AVG, equation 5; GENIUS aligns the codes of both
    """Align the decoder's output with the sentence, or the codes of both with each other."""
    num_steps: int = 500  # ours: AVG takes 5,000 epochs
    """Steps of the training."""
    batch_size: int = 512  # ours; AVG 2048
    """Vectors a step."""
    learning_rate: float = 1e-3  # ours: AVG 1e-4, for many more steps
    """Learning rate of AdamW."""

    def __post_init__(self) -> None:
        for name in ("num_levels", "num_codes", "dim", "num_steps", "batch_size"):
            require("quantizer", self, name, 1)
        for name in ("commitment", "align"):
            require("quantizer", self, name, 0)
        if any(width < 1 for width in self.layers):
            raise UserError(f"--quantizer.layers takes widths from 1 on such as [512, 256], found {self.layers}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--quantizer.dropout must be from 0 to below 1, found {self.dropout}")
        if self.learning_rate <= 0:
            raise UserError(f"--quantizer.learning-rate must be above 0, found {self.learning_rate}")
        if self.kind == "rq-kmeans" and (self.shared or self.align):
            own = "--quantizer.shared true" if self.shared else f"--quantizer.align {self.align:g}"
            raise UserError(f"{own} is trained, which k-means is not: add --quantizer.kind rq-vae, or leave it out")


@dataclass
class CodeSettings:
    """Settings of all schemes that write codes."""

    coarse: int = 128
    branch: int = 30
    leaf: int = 30
    collisions: Collisions = "share"
    modality_token: bool = False
    per_item: int = 1
    token_init: TokenInit = "words"
    num_token_words: int = 5
    num_inits: int = 1
    max_iterations: int = 300
    max_fit_items: int = 100_000
    quantizer: QuantizerSettings = field(default_factory=QuantizerSettings)


def require(section: str, settings: Any, name: str, least: float) -> None:
    """Refuse a setting below `least`.

    Raises:
        UserError: names the flag and what was found.
    """
    value = getattr(settings, name)
    if value < least:
        raise UserError(f"{option(f'{section}.{name}')} must be {least} or more, found {value}")

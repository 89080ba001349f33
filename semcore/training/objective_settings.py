"""Settings of what neighbouring papers add to the identifier model's training. Only recipes see them.

AVG is "Revolutionizing Text-to-Image Retrieval as Autoregressive Text-to-Voken Generation", ComGTIR its successor with
a set prior, CART the coarse-to-fine one, GRACE "Generative Cross-Modal Retrieval"; a script or code is that of their
repository, "paper" is SemCORE's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from semcore.models.set_head import Pool
from semcore.runtime.errors import UserError
from semcore.runtime.settings import option
from semcore.training.objective import Objective, Ranking, RankingLossName, SetLossName

Further = Literal["none", "train", "all"]


@dataclass
class QuerySettings:
    """What else asks for an identifier. With "all", val and test images are trained on: results say transductive."""

    captions: Further = "none"  # paper; CART, section 3.3: all; AVG's and GRACE's code: also those of test
    """Whose captions, from RUN/captions.jsonl, ask for their image's identifier, as sentences do."""
    images: Further = "none"  # paper; GRACE, section 3.3, learning to memorize: all
    """Which images ask for their own identifier, with the prompt identify_own."""

    @property
    def everything(self) -> bool:
        """Return whether val and test items are trained on."""
        return "all" in (self.captions, self.images)


@dataclass
class LossSettings:
    """What is minimised beside the cross-entropy of the identifiers' tokens."""

    temperature: float = 1.0  # paper; AVG's script: 0.5
    """Logits are divided by it in training; a search divides by nothing."""
    rdrop: float = 0.0  # paper; CART, appendix C: 0.15
    """Weight of R-Drop: how much the predictions of two passes with other dropout diverge. Takes twice the time."""
    dropout: float = 0.0  # InternVL; AVG's script: 0.2, CART does not say
    """Rate at which attention and the outputs of the MLPs are dropped out in training."""
    set_weight: float = 0.0  # paper; ComGTIR's code, third stage: 0.5
    """Weight of the set head's loss, which reads an identifier's units as a set; 0 trains no set head."""
    set_loss: SetLossName = "codes"  # ComGTIR's code, second stage
    """Each unit against all others ("codes"), or the whole set against those of the batch ("items")."""
    set_pool: Pool = "max"  # ComGTIR, equation 6; its code pools before the head, too
    """What the set head reads of a prompt: the maximum of its tokens' states, or the last one's."""
    fusion: Literal["none", "layers"] = "none"  # paper; CART, section 3.4: layers
    """What the last norm reads: the last layer, or a coarse and a fine branch over several layers."""
    fusion_layers: int = 3  # CART, Tables 5 and 10
    """How many layers are fused, evenly spread."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"--losses.temperature must be above 0, found {self.temperature}")
        for name in ("rdrop", "set_weight"):
            if getattr(self, name) < 0:
                raise UserError(f"{option(f'losses.{name}')} must be 0 or more, found {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--losses.dropout must be from 0 to below 1, found {self.dropout}")
        if self.fusion_layers < 1:
            raise UserError(f"--losses.fusion-layers must be 1 or more, found {self.fusion_layers}")

    def modules(self) -> dict[str, Any]:
        """Return which extra modules are trained: whether a set head and its pooling, and how many layers are fused."""
        num_fused = self.fusion_layers if self.fusion == "layers" else 0
        return {"has_set_head": self.set_weight > 0, "pool": self.set_pool, "num_fused": num_fused}

    def objective(self) -> Objective:
        """Return what is minimised."""
        return Objective(self.temperature, self.rdrop, self.set_weight, self.set_loss)


@dataclass
class RankingSettings:
    """How a right identifier is ranked among those that a search finds."""

    loss: RankingLossName = "contrastive"  # AVG, equation 9
    """"contrastive" over all found, or "hinge" with one of them (in AVG's code, never called)."""
    weight: float = 0.5  # AVG's code; its paper sums both losses
    """Weight of the ranking loss beside the cross-entropy of the right identifier."""
    temperature: float = 1.0  # AVG, equation 9
    """Scores are divided by it in the contrastive loss."""
    margin: float = 5.0  # AVG's script
    """Of the hinge, in nats."""
    num_beams: int = 10  # AVG's code; its paper: the width of the search
    """Width of the search in the training items, and the most identifiers that are found for a query."""
    rounds: int = 1  # ours: AVG's code searches anew in every step of five epochs; 5 searches anew before each
    """How often is searched, each time with the model so far and followed by training.num_epochs."""
    limit: int | None = None  # ours: all
    """Ask with so many queries a direction only, drawn at random, for a quick trial."""

    def __post_init__(self) -> None:
        for name in ("num_beams", "rounds", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{option(f'ranking.{name}')} must be 1 or more, found {value}")
        for name in ("weight", "temperature"):
            if not getattr(self, name) > 0:
                raise UserError(f"{option(f'ranking.{name}')} must be above 0, found {getattr(self, name)}")
        if self.margin < 0:
            raise UserError(f"--ranking.margin must be 0 or more, found {self.margin}")

    def objective(self, num_queries: int) -> Objective:
        """Return what is minimised, with so many queries a step."""
        kept: dict[str, Any] = {name: asdict(self)[name] for name in ("loss", "weight", "temperature", "margin")}
        return Objective(ranking=Ranking(**kept, num_queries=num_queries))

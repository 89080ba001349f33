"""Settings of both training recipes. Only recipes see them; library functions take plain arguments.

"InternVL" below is the official fine-tuning of InternVL2.5-1B to 4B, OpenGVLab/InternVL
`internvl_chat/shell/internvl2.5/2nd_finetune`, whose configuration the paper follows. Of its own the paper gives five
epochs and a batch of four pairs per GPU on two GPUs (A.1), which recipes/configs set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from semcore.models.quantization import Quantization
from semcore.runtime.errors import UserError
from semcore.runtime.settings import option

Optim = Literal["adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"]
SCHEDULE = ("num_epochs", "max_steps", "batch_size", "seed")
LOADING = ("bf16", "dtype", "device_map")
UNMASKED = ("flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass
class ModelSettings:
    """Where the model comes from, and which of its parts stay as they are."""

    base: str | None = None  # ours: one model begins both
    """The checkpoint to start from: a folder or a hub id of a native InternVL; by default the one that captioned."""
    freeze_vision: bool = True  # InternVL
    """Leave the vision tower as it is."""
    freeze_projector: bool = True  # ours: InternVL trains it; frozen, a fifth as much is kept of an image
    """Leave the projector between vision tower and text model as it is."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""


@dataclass
class LoraSettings:
    """Train small matrices beside the text model's layers instead of the layers themselves."""

    rank: int = 0  # InternVL: 16
    """LoRA's rank; 0 trains the whole text model."""
    alpha: int | None = None  # InternVL: twice the rank
    """LoRA's alpha; by default twice the rank."""
    dropout: float = 0.05  # InternVL
    """LoRA's dropout."""
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )  # InternVL, for Qwen2
    """Names of the linear layers of the text model that get LoRA."""
    quantization: Quantization = "none"  # InternVL; nf4: QLoRA (Dettmers et al., 2023)
    """Keep the base's linear layers of the text model in four bits: QLoRA."""

    def __post_init__(self) -> None:
        _at_least("lora.rank", self.rank, 0)
        if self.alpha is not None:
            _at_least("lora.alpha", self.alpha, 1)
        _fraction("lora.dropout", self.dropout)
        if self.quantization != "none" and not self.rank:
            raise UserError(
                f"--lora.quantization {self.quantization} packs weights that do not train: give --lora.rank 16, or "
                "leave it none"
            )

    def adapter(self) -> dict[str, Any]:
        """Return what an adapter is made of."""
        return {name: value for name, value in asdict(self).items() if name != "quantization"}


@dataclass
class TrainingSettings:
    """How the model is trained."""

    help_sections: ClassVar = {"bf16": "computation"}

    learning_rate: float = 4e-5  # InternVL
    """Peak learning rate; it falls to 0 along a cosine."""
    weight_decay: float = 0.01  # InternVL
    """Of AdamW."""
    warmup_ratio: float = 0.03  # InternVL
    """Fraction of the steps in which the learning rate rises."""
    max_grad_norm: float = 1.0  # InternVL
    """Gradients are clipped to this norm."""
    adam_beta2: float = 0.999  # InternVL
    """AdamW's second beta."""
    optim: Optim = "adamw_torch_fused"  # InternVL: AdamW
    """AdamW, or the one of bitsandbytes that keeps its moments in eight bits."""
    num_epochs: int = 1  # InternVL
    """Passes over the training data."""
    max_steps: int | None = None
    """Stop after so many steps; the learning rate then falls to 0 within them."""
    batch_size: int = 32  # ours: about InternVL's 128 pairs, as a row holds several
    """Rows a step, over all processes."""
    micro_batch_size: int = 4  # InternVL
    """Rows that go through a device at once, at most; gradients accumulate up to batch_size."""
    bf16: Literal["auto", "yes", "no"] = "auto"  # InternVL: yes
    """Compute in bfloat16; "auto" where the machine does that natively."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # ours: small steps would be lost in bfloat16's digits
    """Precision of the weights; "auto" is float32, and under LoRA what is computed in."""
    attn_implementation: Literal[
        "auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"
    ] = "auto"  # ours: the library's choice, but plain products on a CPU, where they are faster
    """How attention is computed. Rows of several examples need a mask, which only eager and sdpa take."""
    device_map: str | None = None
    """"auto" and the like: the library spreads the layers of one process over several GPUs."""
    gradient_checkpointing: bool = True  # InternVL
    """Recompute activations in the backward pass to save memory."""
    save_steps: int = 200  # InternVL
    """Steps between two checkpoints that an interrupted training goes on from."""
    seed: int = 0
    """Seed of the order of the examples and of dropout."""
    report_to: str = "none"  # ours
    """Where steps and losses are reported too: tensorboard, wandb, ..., or several with commas between."""

    def __post_init__(self) -> None:
        for name in ("num_epochs", "batch_size", "micro_batch_size", "save_steps"):
            _at_least(f"training.{name}", getattr(self, name), 1)
        if self.max_steps is not None:
            _at_least("training.max_steps", self.max_steps, 1)
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise UserError(f"{option(f'training.{name}')} must be above 0, found {getattr(self, name)}")
        for name in ("warmup_ratio", "adam_beta2"):
            _fraction(f"training.{name}", getattr(self, name))
        _at_least("training.weight_decay", self.weight_decay, 0)
        if self.attn_implementation in UNMASKED:
            raise UserError(
                f"--training.attn-implementation {self.attn_implementation} takes no mask, and the examples of a row "
                "would see each other; give sdpa or eager"
            )
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--training.seed must be from 0 to {2**32 - 1}, found {self.seed}")

    def schedule(self) -> dict[str, Any]:
        """Return what decides which rows meet in which step."""
        return {name: value for name, value in asdict(self).items() if name in SCHEDULE}

    def optimization(self) -> dict[str, Any]:
        """Return the rest, and what both need."""
        left_out = ("num_epochs", "max_steps", "dtype", "device_map", "null_queries")
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def loading(self) -> dict[str, Any]:
        """Return what decides how the model is loaded."""
        return {name: value for name, value in asdict(self).items() if name in LOADING}


@dataclass
class VerifierTrainingSettings(TrainingSettings):
    """How a verifier is trained."""

    attention_loss: float = 0.0  # ours: the paper trains on the letter alone
    """Weight of an extra loss: -log of the share of attention that the answer pays to the right candidate among all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("training.attention_loss", self.attention_loss, 0)


@dataclass
class IdentifierTrainingSettings(TrainingSettings):
    """How the identifier model is trained."""

    null_queries: float = 0.0  # paper; ours: 0.1 tells the identifiers' prior in one pass
    """Fraction of the pairs that are learnt without their query too, as how probable identifiers are whatever is asked;
    the evaluation's --prior-weight then needs one pass over them and no training queries."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _fraction("training.null_queries", self.null_queries)


@dataclass
class HeldOutSettings:
    """Which queries the identifier model is not trained on; the verifier's candidates are mined with them."""

    sentences_per_image: int = 1  # ours
    """Sentences of each training image that are not trained on."""
    image_fraction: float = 0.1  # ours
    """Fraction of the training images that are not trained on as queries."""
    seed: int = 0
    """Of the choice."""

    def __post_init__(self) -> None:
        if self.sentences_per_image < 0:
            raise UserError(f"--held-out.sentences-per-image must be 0 or more, found {self.sentences_per_image}")
        if not 0 <= self.image_fraction < 1:
            raise UserError(f"--held-out.image-fraction must be from 0 to below 1, found {self.image_fraction}")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise UserError(f"{option(name)} must be {least} or more, found {value}")


def _fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"{option(name)} must be from 0 to below 1, found {value}")

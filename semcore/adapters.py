"""Adapter folders: which base an adapter sits on, and in which precision it was trained there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from semcore.files import read_json, write_json
from semcore.quantization import Quantization

CONFIG, BASE = "adapter_config.json", "base.json"


@dataclass(frozen=True)
class BaseNote:
    """What an adapter was trained on.

    Attributes:
        fingerprint: of the base checkpoint, from `semcore.checkpoint.fingerprint`; "" where nobody noted it.
        quantization: how the base's text model was packed.
        dtype: precision that its weights were read in; "" where nobody noted it.
    """

    fingerprint: str = ""
    quantization: Quantization = "none"
    dtype: str = ""


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Return the folder or hub id of the checkpoint that an adapter sits on."""
    return str(read_json(folder / CONFIG)["base_model_name_or_path"])


def read_note(folder: Path) -> BaseNote:
    """Return what an adapter was trained on; adapters of other tools say nothing of it."""
    path = folder / BASE
    return BaseNote(**read_json(path)) if path.exists() else BaseNote()


def write_note(folder: Path, note: BaseNote) -> None:
    """Write beside an adapter what it was trained on."""
    write_json(folder / BASE, asdict(note))

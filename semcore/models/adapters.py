"""Adapter folders: which base an adapter sits on, and in which precision it was trained there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from semcore.models.quantization import Quantization
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.moved_checkpoints import find_checkpoint

CONFIG, BASE = "adapter_config.json", "base.json"


@dataclass(frozen=True)
class BaseNote:
    """What an adapter was trained on.

    Attributes:
        fingerprint: of the base checkpoint, from `semcore.runtime.fingerprints`; "" where nobody noted it.
        quantization: how the base's text model was packed.
        dtype: precision that its weights were read in; "" where nobody noted it.
        from_here: the way from the adapter's folder to the base's, which may move together; "" for a hub id.
    """

    fingerprint: str = ""
    quantization: Quantization = "none"
    dtype: str = ""
    from_here: str = ""


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Return the folder or hub id of the checkpoint that an adapter sits on.

    Raises:
        UserError: the adapter does not say.
    """
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(f"{folder / CONFIG} names no base_model_name_or_path; write the base's folder or hub id there")
    return base


def find_base(folder: Path, moved: str | Path | None = None) -> str:
    """Return where the checkpoint that an adapter was trained on is now.

    Args:
        folder: the adapter's.
        moved: where a user says that it is.

    Raises:
        UserError: the adapter does not name it, or it is nowhere.
    """
    note, recorded = read_note(folder), base_of(folder)
    missing = f"the base of {folder}, {recorded}, is no longer there; say where it is with --base FOLDER"
    beside = folder / note.from_here if note.from_here else None
    return find_checkpoint(recorded, note.fingerprint or None, beside=beside, given=moved, missing=missing)


def read_note(folder: Path) -> BaseNote:
    """Return what an adapter was trained on; adapters of other tools say nothing of it."""
    noted = read_json(folder / BASE) if (folder / BASE).exists() else {}
    return BaseNote(**{own.name: noted[own.name] for own in fields(BaseNote) if own.name in noted})


def write_note(folder: Path, note: BaseNote) -> None:
    """Write beside an adapter what it was trained on."""
    write_json(folder / BASE, asdict(note))

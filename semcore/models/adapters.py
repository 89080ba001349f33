"""Adapter folders: the base of an adapter, and the precision in which it was trained."""

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
    """Record of the base that an adapter was trained on.

    Attributes:
        fingerprint: fingerprint of the base, from `semcore.runtime.fingerprints`; "" where none was recorded.
        quantization: quantisation of the base's text model.
        dtype: precision in which its weights were loaded; "" where none was recorded.
        from_here: relative path from the adapter's folder to the base's, which may move together; "" for a hub id.
    """

    fingerprint: str = ""
    quantization: Quantization = "none"
    dtype: str = ""
    from_here: str = ""


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Return the folder or hub id of an adapter's base.

    Raises:
        UserError: the adapter does not name it.
    """
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(f"{folder / CONFIG} names no base_model_name_or_path; write the base's folder or hub id there")
    return base


def find_base(folder: Path, moved: str | Path | None = None) -> str:
    """Return the present path of an adapter's base.

    Args:
        folder: the adapter's folder.
        moved: the path that the user gives.

    Raises:
        UserError: the adapter does not name its base, or the base is not found.
    """
    note, recorded = read_note(folder), base_of(folder)
    missing = f"the base of {folder}, {recorded}, is no longer there; say where it is with --base FOLDER"
    beside = folder / note.from_here if note.from_here else None
    return find_checkpoint(recorded, note.fingerprint or None, beside=beside, given=moved, missing=missing)


def read_note(folder: Path) -> BaseNote:
    """Return the record of an adapter's base; adapters of other tools have an empty one."""
    noted = read_json(folder / BASE) if (folder / BASE).exists() else {}
    return BaseNote(**{own.name: noted[own.name] for own in fields(BaseNote) if own.name in noted})


def write_note(folder: Path, note: BaseNote) -> None:
    """Write the record of an adapter's base into its folder."""
    write_json(folder / BASE, asdict(note))

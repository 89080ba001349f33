"""Merging of an adapter and its base into one checkpoint, which needs neither of them nor peft."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from semcore.models.adapters import CONFIG, find_base, is_adapter
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.extra_modules import without_extras
from semcore.models.lineage import Surroundings, check_lineage, renew_lineage
from semcore.models.run_checkpoints import VERIFIER_FOLDERS
from semcore.runtime.atomic import check_new, new_folder
from semcore.runtime.errors import UserError

MODELS = ("identifier_model", "ranked_model", *VERIFIER_FOLDERS.values())
OF_THE_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "base.json")
PROCESSOR = ("processor_config.json", "preprocessor_config.json", "generation_config.json")


def merge_adapter(
    source: Path, target: Path, *, base: Path | None = None, dtype: str = "auto", allow_mismatch: Collection[str] = ()
) -> Checkpoint:
    """Merge an adapter into its base, embeddings of new tokens included, and write the checkpoint.

    A base that was quantised for training (QLoRA) is written with its dequantised values, so that the
    merged model equals the trained one. Memory: the whole model once.

    Args:
        source: an adapter's folder, or a run folder with one.
        target: the new folder; it appears when everything is written.
        base: the present path of the base, if it has moved.
        dtype: precision to write, "float32" or "bfloat16"; "auto" keeps the base's.
        allow_mismatch: kinds of lineage mismatch that are allowed; the merged folder records them.

    Returns:
        The merged checkpoint.

    Raises:
        UserError: there is no adapter or more than one, its base is missing or has changed, or the target exists.
    """
    folder = find_adapter(source)
    check_new(folder, target)
    allowed = check_lineage(folder, Surroundings(base=base), allow_mismatch, must_say=False)
    place = find_base(folder, base)
    checkpoint = load_checkpoint(folder, dtype=dtype, base=place)
    merged: Any = checkpoint.model.merge_and_unload()
    with new_folder(target) as new, without_extras(merged):
        for part in (merged, checkpoint.tokenizer, checkpoint.image_processor):
            part.save_pretrained(new)
        _copy_missing(Path(place), new, PROCESSOR)
        kept = [path.name for path in folder.iterdir() if path.is_file() and path.name not in OF_THE_ADAPTER]
        _copy_missing(folder, new, kept)
        renew_lineage(new, allowed)
    return Checkpoint(merged, checkpoint.tokenizer, checkpoint.image_processor, str(target))


def find_adapter(source: Path) -> Path:
    """Return the folder itself if it is an adapter, else the adapter's folder in a run folder.

    Raises:
        UserError: there is none, or there are several.
    """
    if is_adapter(source):
        return source
    found = [source / name for name in MODELS if is_adapter(source / name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{source} holds several adapters; name {' or '.join(map(str, found))}")
    raise UserError(f"{source} holds no adapter: there is no {CONFIG} in it; give a folder that --lora.rank has made")


def _copy_missing(source: Path, target: Path, names: Any) -> None:
    for name in names:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)

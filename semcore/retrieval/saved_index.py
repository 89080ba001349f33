"""Saved indexes: the index of a run's identifiers, built once and memory-mapped at every later start.

RUN/index/KEY/identifiers.safetensors    the index
RUN/index/KEY/index.json                 its corpus, its key, and the SHA-256 of the file beside it

The key is a hash of all that determines the index: the items' ids and identifiers, the tokenizer, and the prompt before
an identifier. So an index of other identifiers is never used. Other data on exactly these identifiers, such as a number
per item, may be in the same folder, and is removed with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from semcore import __version__
from semcore.data.run_folder import RunFolder
from semcore.decoding import IdentifierIndex
from semcore.runtime.atomic import new_folder
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, sha256_of, write_json
from semcore.runtime.fingerprints import file_fingerprint
from semcore.runtime.remains import INCOMPLETE, is_left_behind

logger = logging.getLogger(__name__)
FOLDER, INDEX, NOTE = "index", "identifiers.safetensors", "index.json"
ABANDONED_S = 3_600  # ours: no index takes an hour to write


def index_folder(run: RunFolder | Path, key: str) -> Path:
    """Return RUN/index/KEY, the folder of a key's index and its other data."""
    return run / FOLDER / key


def index_key(tokenizer: Any, prompt: str, end_token_id: int, items: Iterable[tuple[str, str]]) -> str:
    """Return a hash of all that determines a corpus's token sequences and their items.

    Args:
        tokenizer: the identifier model's tokenizer.
        prompt: the text before an identifier.
        end_token_id: the token that ends an identifier.
        items: id and identifier of every item, in their order.
    """
    versions = [__version__, tokenizers.__version__]  # other versions may tokenize differently
    head = json.dumps([versions, _fingerprint(tokenizer), prompt, end_token_id])
    digest = hashlib.sha256(f"{head[:-1]}, [".encode())
    between = ""
    for item in items:
        digest.update(f"{between}{json.dumps(item)}".encode())
        between = ", "
    digest.update(b"]]")
    return digest.hexdigest()[:32]


def _fingerprint(tokenizer: Any) -> str:
    """Return a hash of a tokenizer's present state, including tokens added since it was loaded."""
    if tokenizer.is_fast:
        return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return hashlib.sha256("".join(path.name + sha256_of(path) for path in files).encode()).hexdigest()


@dataclass(frozen=True)
class SavedIndexes:
    """The saved indexes of one corpus of a run.

    Attributes:
        run: the run folder.
        corpus: direction and split, such as "t2i-all"; one index of each is kept.
    """

    run: RunFolder
    corpus: str

    def load_or_build(self, key: str, build: Callable[[], IdentifierIndex]) -> IdentifierIndex:
        """Return the index of a key: the saved one, or one that is built now and saved where that is possible.

        Args:
            key: from `index_key`.
            build: builds the index if none is saved, or a damaged one.
        """
        index = self.find(key)
        if index is None:
            index = build()
            self.keep(key, index)
        return index

    def find(self, key: str) -> IdentifierIndex | None:
        """Return the saved index of a key; None if there is none, or a damaged one."""
        folder = index_folder(self.run, key)
        if folder.exists():
            try:
                return _load(folder, key)
            except (UserError, OSError) as error:
                logger.warning("%s is damaged (%s); it is built again", folder, error)
        return None

    def keep(self, key: str, index: IdentifierIndex) -> None:
        """Save an index in place of the corpus's earlier one, where that is possible.

        Whoever has an earlier one open goes on with it: a file that is mapped into memory outlives its name.
        """
        try:
            self._save(index_folder(self.run, key), key, index)
        except (UserError, OSError) as error:  # a run on a read-only disk can still be searched
            logger.info("the index is not kept: %s", error)

    @property
    def nbytes(self) -> int | None:
        """Return the bytes of the saved index of this corpus; None where none is saved."""
        folder = self._present()
        return None if folder is None else (folder / INDEX).stat().st_size

    @property
    def time_ns(self) -> int:
        """Return when the saved index of this corpus was written, in ns since 1970; 0 where none is saved."""
        folder = self._present()
        return 0 if folder is None else (folder / INDEX).stat().st_mtime_ns

    def _present(self) -> Path | None:
        notes = sorted((self.run / FOLDER).glob(f"*/{NOTE}"))
        return next((note.parent for note in notes if read_json(note).get("corpus") == self.corpus), None)

    def _save(self, folder: Path, key: str, index: IdentifierIndex) -> None:
        """Write an index and its record, then remove the indexes that it replaces."""
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        with new_folder(folder) as incomplete:
            index.save(incomplete / INDEX)
            write_json(incomplete / NOTE, {"corpus": self.corpus, "key": key, "sha256": sha256_of(incomplete / INDEX)})
        for other in folder.parent.iterdir():
            if other != folder and self._is_stale(other):
                shutil.rmtree(other, ignore_errors=True)

    def _is_stale(self, folder: Path) -> bool:
        """Return whether a folder is an earlier index of this corpus, or one that a killed process left unfinished."""
        if folder.name.endswith(INCOMPLETE):
            return is_left_behind(folder.name) or time.time() - folder.stat().st_mtime > ABANDONED_S
        try:
            return read_json(folder / NOTE).get("corpus") == self.corpus
        except UserError:
            return True


def _load(folder: Path, key: str) -> IdentifierIndex:
    """Map a saved index into memory.

    Raises:
        UserError: its content is not what was written under this key.
    """
    note = read_json(folder / NOTE)
    if note.get("key") != key or note.get("sha256") != file_fingerprint(folder / INDEX):
        raise UserError(f"{folder / INDEX} is not what {NOTE} says of it")
    return IdentifierIndex.load(folder / INDEX, check=False)

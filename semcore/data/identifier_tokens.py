"""New tokens of identifiers, and the files that say where their embeddings start.

RUN/identifiers/tokens.json          {"tokens": [{"text", "words"}], "init", "vectors"}, of schemes that write codes
RUN/identifiers/tokens.safetensors   the codes' vectors (T, e), where there are any; a row of NaN where a token has none

Identifiers without tokens.json have the cluster tokens of cluster_words.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from semcore.data.identifier_files import CLUSTER_WORDS, cluster_token, read_cluster_words
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_bytes, write_json

TOKENS = "tokens.json"
VECTORS = "tokens.safetensors"
TokenInit = Literal["words", "codebook", "random"]
"""Where a new token's embedding starts: the mean of its words', its code's vector, or noise around the mean of all."""


@dataclass(frozen=True)
class NewTokens:
    """The tokens that identifiers bring, T of them.

    Attributes:
        texts: the tokens.
        words: the words that characterise what each token stands for, most telling first; may be empty.
        vectors: each token's vector (T, e), float32; a row of NaN is a token without one, such as a counter.
        init: where their embeddings start.
    """

    texts: Sequence[str]
    words: Sequence[Sequence[str]]
    vectors: np.ndarray | None = None
    init: TokenInit = "words"


def cluster_tokens(cluster_words: Sequence[Sequence[str]]) -> NewTokens:
    """Return one token per cluster, whose embeddings start at the clusters' words."""
    return NewTokens([cluster_token(cluster) for cluster in range(len(cluster_words))], cluster_words)


def tokens_file(folder: Path) -> str:
    """Return the name of the file that tells the new tokens of RUN/identifiers."""
    return TOKENS if (folder / TOKENS).is_file() else CLUSTER_WORDS


def write_tokens(folder: Path, tokens: NewTokens) -> None:
    """Write tokens.json and, where there are vectors, tokens.safetensors before it."""
    if tokens.vectors is not None:
        write_bytes(folder / VECTORS, save({"vectors": np.ascontiguousarray(tokens.vectors, np.float32)}))
    rows = [{"text": text, "words": list(words)} for text, words in zip(tokens.texts, tokens.words, strict=True)]
    vectors = None if tokens.vectors is None else VECTORS
    write_json(folder / TOKENS, {"init": tokens.init, "vectors": vectors, "tokens": rows})


def read_tokens(folder: Path) -> NewTokens:
    """Read the new tokens of RUN/identifiers.

    Raises:
        UserError: the files are missing or broken.
    """
    path = folder / tokens_file(folder)
    if path.name == CLUSTER_WORDS:
        return cluster_tokens(read_cluster_words(folder))
    content = read_json(path)
    try:
        rows, init = content["tokens"], content["init"]
        texts, words = [str(row["text"]) for row in rows], [list(row["words"]) for row in rows]
        vectors = load_file(folder / VECTORS)["vectors"] if content["vectors"] else None
        if init not in get_args(TokenInit) or (vectors is not None and len(vectors) != len(texts)):
            raise ValueError
    except (KeyError, TypeError, ValueError, OSError, SafetensorError):
        raise UserError(f"{path} holds no new tokens; delete {folder} and make the identifiers again") from None
    return NewTokens(texts, words, vectors, init)

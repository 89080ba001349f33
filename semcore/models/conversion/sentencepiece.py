"""Fast tokenizer from a SentencePiece BPE model (`tokenizer.model`), without the sentencepiece package.

The file is a protocol buffer; the few fields that matter are read here (sentencepiece_model.proto:
ModelProto.pieces = 1, trainer_spec = 2, normalizer_spec = 3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from semcore.runtime.errors import UserError

SPACE = "\u2581"  # how SentencePiece writes a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BPE_MODEL = 2
Field = tuple[int, int | float | bytes]


@dataclass(frozen=True)
class PieceModel:
    """What a `tokenizer.model` says: pieces in the order of their ids, and how text is prepared."""

    pieces: list[str]
    scores: list[float]
    kinds: list[int]
    byte_fallback: bool
    add_dummy_prefix: bool


def read_piece_model(path: Path) -> PieceModel:
    """Read a SentencePiece BPE model.

    Raises:
        UserError: the file is missing, damaged, or prepares text in a way that InternLM2 does not.
    """
    try:
        fields = list(_fields(path.read_bytes()))
        pieces = [dict(_fields(_bytes(value))) for number, value in fields if number == 1]
        trainer, normalizer = (dict(_fields(b"".join(_bytes(v) for n, v in fields if n == k))) for k in (2, 3))
        texts = [_bytes(piece[1]).decode() for piece in pieces]
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; download the checkpoint again") from None
    except (IndexError, struct.error, TypeError, KeyError, ValueError):
        raise UserError(f"{path} is not a whole SentencePiece model; download it again") from None
    # Absent fields have the defaults of sentencepiece_model.proto.
    if not texts or trainer.get(3, 1) != BPE_MODEL or normalizer.get(2) or normalizer.get(4, 1):
        raise UserError(
            f"{path} cannot be converted: as in InternLM2, it must be a SentencePiece BPE model that changes no text"
        )
    scores = [float(piece.get(2, 0.0)) for piece in pieces]
    kinds = [int(piece.get(3, NORMAL)) for piece in pieces]
    return PieceModel(texts, scores, kinds, bool(trainer.get(35, 0)), bool(normalizer.get(3, 1)))


def fast_tokenizer(model: PieceModel, added: dict[int, AddedToken]) -> Tokenizer:
    """Return a tokenizer that cuts text into the same pieces.

    Args:
        model: from `read_piece_model`.
        added: tokens by id; an id below the number of pieces replaces that piece.

    Raises:
        UserError: the added ids leave a gap behind the pieces.
    """
    pieces = [added[i].content if i in added else piece for i, piece in enumerate(model.pieces)]
    beyond = sorted(i for i in added if i >= len(pieces))
    if beyond != list(range(len(pieces), len(pieces) + len(beyond))):
        raise UserError(f"the added tokens do not follow the {len(pieces)} pieces of tokenizer.model without a gap")
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    unknown = pieces[model.kinds.index(UNKNOWN)] if UNKNOWN in model.kinds else None
    tokenizer = Tokenizer(
        BPE(vocabulary, _merges(model, pieces), unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)
    )
    prefix = [normalizers.Prepend(SPACE)] if model.add_dummy_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    defined = {i: AddedToken(pieces[i], normalized=False) for i, k in enumerate(model.kinds) if k == USER_DEFINED}
    tokenizer.add_tokens([token for _, token in sorted((defined | added).items())])
    return tokenizer


def _merges(model: PieceModel, pieces: list[str]) -> list[tuple[str, str]]:
    """Return the pairs that join, first the best scored: every cut of a piece into two pieces."""
    usable = {
        piece: (score, i)
        for i, (piece, score, kind) in enumerate(zip(pieces, model.scores, model.kinds, strict=True))
        if kind == NORMAL and piece == model.pieces[i]
    }
    pairs = [
        (-score, usable[piece[:cut]][1], usable[piece[cut:]][1], piece[:cut], piece[cut:])
        for piece, (score, _) in usable.items()
        for cut in range(1, len(piece))
        if piece[:cut] in usable and piece[cut:] in usable
    ]
    return [(left, right) for *_, left, right in sorted(pairs)]


def _fields(data: bytes) -> Iterator[Field]:
    """Yield (field number, value) of a protocol buffer message.

    Raises:
        ValueError: the data is cut short or no message.
    """
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire_type = key >> 3, key & 7
        value: int | float | bytes
        if wire_type == 0:
            value, place = _varint(data, place)
        elif wire_type == 2:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        elif wire_type in (1, 5):
            width = 8 if wire_type == 1 else 4
            value = struct.unpack_from("<d" if wire_type == 1 else "<f", data, place)[0]
            place += width
        else:
            raise ValueError(f"wire type {wire_type}")
        if place > len(data):
            raise ValueError("cut short")
        yield number, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _bytes(value: int | float | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("text is needed")
    return value

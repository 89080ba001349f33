"""Interface of identifier schemes: what one gets, and what it makes of it.

A scheme is a module with a function from `SchemeInputs` to `Identifiers`, and one for `LaterItems` if there can be one,
and a line in `semcore.identifiers.schemes`. Queries, prompts, trainings, index, search and metrics know rows and new
tokens, and no scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import IdentifierRow
from semcore.data.identifier_tokens import NewTokens
from semcore.identifiers.code_settings import CodeSettings
from semcore.identifiers.sentence_encoder import Encode
from semcore.identifiers.structured import StructuredIdentifiers


class Vectors(NamedTuple):
    """Vectors of the items, of length sqrt(d): a coordinate's mean square is 1, so that losses are of order 1.

    Attributes:
        images: (images, d), of the captioned images.
        sentences: (sentences, d); None where the vectors have no side of texts.
    """

    images: np.ndarray
    sentences: np.ndarray | None


@dataclass(frozen=True)
class SchemeInputs:
    """What identifiers can be made from.

    Attributes:
        captions: the items of text -> image, all splits.
        sentences: the items of image -> text, all splits.
        image_of_sentence: the place of each sentence's image among the captions, or `NO_IMAGE`.
        fitted: the places of the captions that may be learnt from; see `fitted_on`.
        structured: makes clusters and keywords.
        vectors: makes the items' vectors.
        codes: settings of the schemes that write codes.
        seed: of everything random.
        device: where what is trained is trained.
        progress: show progress bars.
    """

    captions: Sequence[TextItem]
    sentences: Sequence[TextItem]
    image_of_sentence: Sequence[int]
    fitted: Sequence[int]
    structured: Callable[[], StructuredIdentifiers]
    vectors: Callable[[], Vectors]
    codes: CodeSettings = field(default_factory=CodeSettings)
    seed: int = 0
    device: str | None = None
    progress: bool = False


class CodeReader(NamedTuple):
    """What a perfect reader of codes knows of one direction's items (N of them).

    Attributes:
        codes: (N, levels), collision tokens left out; -1 behind a shorter identifier.
        vectors: (N, d), the items' own vectors.
        rebuilt: (N, d), the vectors that their codes stand for.
    """

    codes: np.ndarray
    vectors: np.ndarray
    rebuilt: np.ndarray


Readers = tuple[CodeReader, CodeReader | None]
"""Of images, and of sentences where they have codes."""


@dataclass(frozen=True)
class Identifiers:
    """What a scheme has made.

    Attributes:
        t2i: the rows of the images, in the order of the captions.
        i2t: the rows of the sentences, in their order; none where a scheme cannot give them any.
        introduction: what these identifiers are, as the first sentences of the report.
        tokens: the new tokens; None for cluster tokens alone, or none at all.
        structured: clusters and keywords that they were made from, which are then kept.
        figures: figures of the codes, for report.json.
        arrays: file name -> name -> array, for items that come later.
        settings: file name -> content of a JSON file, likewise.
        readers: the codes of both directions, images first; None where identifiers are words.
    """

    t2i: Sequence[IdentifierRow]
    i2t: Sequence[IdentifierRow]
    introduction: Callable[[Mapping[str, Any]], str]
    tokens: NewTokens | None = None
    structured: StructuredIdentifiers | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    readers: Readers | None = None


@dataclass(frozen=True)
class LaterItems:
    """Items that come later, of which nothing is learnt.

    Attributes:
        captions: the images, each with its caption.
        sentences: the sentences.
        encoder: loads the sentence encoder that the identifiers were made with.
        vectors: makes the items' vectors, as those of the dataset's items were made.
        taken: returns the identifiers that images have by now, and those that sentences have.
    """

    captions: Sequence[TextItem]
    sentences: Sequence[TextItem]
    encoder: Callable[[], Encode]
    vectors: Callable[[], Vectors]
    taken: Callable[[], tuple[Collection[str], Collection[str]]]


LaterRows = tuple[Sequence[IdentifierRow], Sequence[IdentifierRow]]
"""The rows of images and of sentences, in their order; none of sentences where a scheme cannot give them any."""
IdentifyLater = Callable[[LaterItems], LaterRows]
OpenLater = Callable[[Path, Mapping[str, Any]], IdentifyLater]
"""Reads RUN/identifiers, with the settings of the stage `identifiers`, once for many additions."""


class Scheme(NamedTuple):
    """What makes the identifiers of a scheme.

    Attributes:
        make: those of a dataset's items.
        later: those of items that come later, exactly the ones that they would have had among the items of val or test;
            or why there are none, to stand behind the scheme's name and a colon.
    """

    make: Callable[[SchemeInputs], Identifiers]
    later: OpenLater | str = "nothing says how to make them"

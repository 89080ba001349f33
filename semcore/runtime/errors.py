"""The two errors that are part of the interface."""

from __future__ import annotations

MOST_LETTERS = 2_000
"""Of a sentence that tells a mistake: what was found may be a million letters without a space."""
LAST_LETTERS = 400


class UserError(Exception):
    """A user's mistake: one sentence that says what is wrong with the input, what was found and what to type.

    Commands print the sentence to stderr and exit 2, without a traceback. Of a very long one the middle is left out: it
    begins with what is wrong and ends with what to type.
    """

    def __init__(self, sentence: str):
        if len(sentence) > MOST_LETTERS:
            left_out = len(sentence) - MOST_LETTERS
            first, last = sentence[: MOST_LETTERS - LAST_LETTERS], sentence[-LAST_LETTERS:]
            sentence = f"{first} … ({left_out:,} letters left out) … {last}"
        super().__init__(sentence)


class UnreadableImage(Exception):
    """The reason why one image cannot be read; long jobs count it, list it and go on."""

"""The two errors that are part of the interface."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake: one sentence that says what is wrong with the input, what was found and what to type.

    Commands print the sentence to stderr and exit 2, without a traceback.
    """


class UnreadableImage(Exception):
    """The reason why one image cannot be read; long jobs count it, list it and go on."""

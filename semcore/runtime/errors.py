"""The two errors that are part of the interface."""

from __future__ import annotations


class UserError(Exception):
    """Say in one sentence what is wrong with the input, what was found and what to type.

    Commands print the sentence to stderr and exit 2, without a traceback.
    """


class UnreadableImage(Exception):
    """Say why one image cannot be read; long jobs count it, list it and go on."""

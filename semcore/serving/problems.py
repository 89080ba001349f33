"""Refusals of a served run: a sentence, a code for machines, and the status of HTTP. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from semcore.runtime.errors import UserError
from semcore.runtime.files import is_disk_full


class Refusal(Exception):
    """A request that is not answered as asked.

    Args:
        status: of HTTP.
        code: a word that does not change between versions.
        sentence: what is wrong, what was found, what to do.
        retry_after_s: seconds after which it may pass, None where it never will.
    """

    def __init__(self, status: int, code: str, sentence: str, retry_after_s: float | None = None):
        super().__init__(status, code, sentence, retry_after_s)  # all of them, so that it can be pickled
        self.status, self.code, self.sentence, self.retry_after_s = status, code, sentence, retry_after_s

    def __str__(self) -> str:
        return self.sentence


def invalid(sentence: str) -> Refusal:
    """Return the refusal of a request that asks for something impossible."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", sentence)


def too_large(sentence: str) -> Refusal:
    """Return the refusal of a request that is over a limit of size."""
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", sentence)


def read_only(reason: str) -> Refusal:
    """Return the refusal of a change where none is taken."""
    return Refusal(HTTPStatus.FORBIDDEN, "read_only", reason)


def not_found(sentence: str) -> Refusal:
    """Return the refusal of a request for something that is not there."""
    return Refusal(HTTPStatus.NOT_FOUND, "not_found", sentence)


def overloaded(sentence: str, retry_after_s: float = 1.0) -> Refusal:
    """Return the refusal of a request that finds the queue full."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", sentence, retry_after_s)


def stopping() -> Refusal:
    """Return the refusal of a request to a server that is about to end."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", "the server is stopping; ask again when it is back", 5.0)


def late(seconds: float) -> Refusal:
    """Return the refusal of a request that was not answered in time."""
    return Refusal(
        HTTPStatus.GATEWAY_TIMEOUT, "timeout", f"no answer within {seconds:g} s; ask again, or ask for less", 1.0
    )


def no_direction(sentence: str) -> Refusal:
    """Return the refusal of a search in a direction that the run cannot be searched in."""
    return Refusal(HTTPStatus.NOT_IMPLEMENTED, "no_direction", sentence)


def broken_run() -> Refusal:
    """Return the refusal of a search that the run no longer has all files for."""
    sentence = "the run lacks a file that this search needs; the server's log says which"
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "broken_run", sentence)


def failed() -> Refusal:
    """Return the refusal of a request that failed by a mistake of ours; the log has the reason."""
    return Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the server made a mistake, which its log describes; it goes on"
    )


def conflict(sentence: str) -> Refusal:
    """Return the refusal of a change that what is there does not allow."""
    return Refusal(HTTPStatus.CONFLICT, "conflict", sentence)


def disk_full() -> Refusal:
    """Return the refusal of a change that the disk has no room for."""
    sentence = "no space left on the server's disk; nothing was changed"
    return Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", sentence)


def refusal_of(error: BaseException) -> Refusal:
    """Return the refusal that an error of a query means."""
    if isinstance(error, Refusal):
        return error
    return invalid(str(error)) if isinstance(error, UserError) else failed()


def refusal_of_change(error: Exception, shown: Callable[[str], str] = str) -> Refusal:
    """Return the refusal that an error of a change of the corpus means.

    Args:
        error: what was raised.
        shown: makes a sentence one for clients.
    """
    if isinstance(error, Refusal):
        return error
    if is_disk_full(error) or "no space left" in str(error):  # of the operating system's words, or of ours
        return disk_full()
    return conflict(shown(str(error))) if isinstance(error, UserError) else failed()

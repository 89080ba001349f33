"""Serve the search page of a run, for a browser on this machine.

    semcore demo --run runs/quickstart
    semcore demo --run runs/quickstart --port 7861 --split test

A sentence finds images and an image finds sentences, with the identifiers, how sure the model is, and why. Nothing is
fetched from, or told to, any other machine. The page takes the package gradio: pip install 'semcore[demo]'.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from semcore.runtime.errors import UserError
from semcore.runtime.settings import LineageSettings


@dataclass
class DemoSettings(LineageSettings):
    """What `semcore demo` takes."""

    run: Path
    """The run folder."""
    port: int = 7860  # ours: gradio's
    """Port of the page."""
    host: str = "127.0.0.1"
    """Address of this machine to serve at; the default one is not reachable from others."""
    split: Literal["all", "train", "val", "test"] = "all"
    """Search the items of one split, or of all."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise UserError(f"--port must be from 1 to 65535, found {self.port}")


def main(settings: DemoSettings) -> None:
    """Serve the page until the command is interrupted."""
    if find_spec("gradio") is None:
        raise UserError("the search page takes gradio, which is not installed; pip install 'semcore[demo]'")
    from semcore.demo.server import LOOPBACK, check_address
    from semcore.demo.serving import served_page

    check_address(settings.host, settings.port)
    with (
        served_page(
            settings.run,
            settings.host,
            settings.port,
            split=settings.split,
            data=settings.data,
            base=settings.base,
            allow_mismatch=settings.allowed,
        ) as address,
        _told_to_end() as ended,
    ):
        sys.stdout.write(f"demo: {settings.run} is searched at {address}; Ctrl+C ends it\n")
        if settings.host not in LOOPBACK:
            sys.stdout.write("demo: whoever reaches this machine can search it and see its images\n")
        sys.stdout.flush()
        _wait(ended)


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Set an event at Ctrl+C and SIGTERM, which is how the page ends; also where the shell has both ignored."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(ended: threading.Event) -> None:
    ended.wait()
    sys.stdout.write("demo: ended\n")

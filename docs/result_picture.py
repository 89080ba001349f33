"""Picture of a search's result: the query, and its best hits with their identifiers and confidence.

    python -m docs.result_picture --run runs/quickstart --text "a green moon" --out docs/pictures/result.png

It is drawn from what `Retriever.search` returns.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from semcore import Retriever
from semcore.commands.arguments import run_command
from semcore.retrieval.hits import Hit
from semcore.runtime.files import write_bytes

WIDTH, MARGIN, GAP = 1400, 28, 20
LETTERS_A_LINE = 26
INK, FAINT, PAPER, FRAME, BAR = "#1f2328", "#59636e", "#ffffff", "#d1d9e0", "#0969da"


@dataclass
class Settings:
    """What to search, and where to draw it."""

    run: Path
    """A finished run."""
    text: str
    """The query."""
    out: Path
    """The picture, a PNG."""
    top_k: int = 5
    """Number of hits."""
    split: str = "test"
    """The split whose items are searched."""


def main(settings: Settings) -> None:
    """Search, draw, save."""
    retriever = Retriever.from_run(settings.run, split=settings.split)
    hits = retriever.search(text=settings.text, top_k=settings.top_k)
    num_items = len(retriever.dataset.split(settings.split))
    picture = draw(settings.text, hits, f"The best {len(hits)} of {num_items:,} pictures ({settings.split})")
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG", optimize=True)
    write_bytes(settings.out, encoded.getvalue())
    print(f"{settings.out}: {len(hits)} hits, the first with confidence {hits[0].confidence}")


def draw(query: str, hits: list[Hit], note: str) -> Image.Image:
    """Return the picture: the query on top, below it a column a hit."""
    side = (WIDTH - 2 * MARGIN - GAP * (len(hits) - 1)) // len(hits)
    top = MARGIN + 112
    labels = [textwrap.wrap(spaced(hit.identifier), LETTERS_A_LINE) for hit in hits]
    picture = Image.new("RGB", (WIDTH, top + side + 68 + 24 * max(map(len, labels)) + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.rounded_rectangle((MARGIN, MARGIN, WIDTH - MARGIN, MARGIN + 60), radius=12, outline=FRAME, width=2)
    pen.text((MARGIN + 20, MARGIN + 30), query, INK, font(30), anchor="lm")
    pen.text((MARGIN, MARGIN + 86), note, FAINT, font(20), anchor="lm")
    for place, (hit, lines) in enumerate(zip(hits, labels, strict=True)):
        left = MARGIN + place * (side + GAP)
        draw_hit(picture, hit, lines, (left, top), side)
    return picture


def draw_hit(picture: Image.Image, hit: Hit, lines: list[str], corner: tuple[int, int], side: int) -> None:
    """Draw a hit: its picture, a bar as long as its confidence, its identifier."""
    pen, (left, top) = ImageDraw.Draw(picture), corner
    with Image.open(hit.image_path or "") as opened:
        picture.paste(opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), corner)
    pen.rectangle((left, top, left + side - 1, top + side - 1), outline=FRAME, width=2)
    below = top + side + 12
    if hit.confidence is not None:
        pen.rounded_rectangle((left, below, left + side, below + 10), radius=5, fill=FRAME)
        pen.rounded_rectangle((left, below, left + max(10, side * hit.confidence), below + 10), radius=5, fill=BAR)
        pen.text((left, below + 30), f"confidence {hit.confidence:.2f}", INK, font(22), anchor="lm")
    for number, line in enumerate(lines):
        pen.text((left, below + 62 + 24 * number), line, FAINT, font(19), anchor="lm")


def spaced(identifier: str) -> str:
    """Return an identifier with a space behind its cluster, where a line may break."""
    return identifier.replace("|>", "|> ", 1)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow brings along, in pixels."""
    return ImageFont.load_default(size)


if __name__ == "__main__":
    run_command(main, Settings)

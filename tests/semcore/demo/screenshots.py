"""Pictures of the search page for README and documentation, taken in the Chromium of this machine.

    python -m tests.semcore.demo.screenshots --run runs/quickstart --out docs/pictures

The run is a quickstart's; `--text` and `--image` choose other queries. Pictures are PNGs of 128 colours.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from semcore.demo.serving import served_page
from tests.semcore.demo.conftest import CHROMIUM, CHROMIUM_OPTIONS, free_port

TEXT, IMAGE = "a large red circle and a small blue star", "scene-001268"
SHOTS = (
    # file, query, width, height, colour scheme, hit whose explanation is open
    ("search-by-sentence.png", "text", 1280, 900, "light", None),
    ("search-by-picture.png", "image", 1280, 860, "dark", 0),
    ("search-on-a-phone.png", "text", 390, 900, "light", None),
)


def main() -> None:
    """Serve the run and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--image", default=IMAGE)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    queries = {name: urlencode({name: getattr(given, name)}) for name in ("text", "image")}
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    given.out.mkdir(parents=True, exist_ok=True)
    with served_page(given.run, "127.0.0.1", free_port(), data=given.data) as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_OPTIONS)
        scheme: Any
        for name, query, width, height, scheme, opened in SHOTS:
            size: Any = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=scheme)
            page.goto(f"{address}?{queries[query]}")
            page.wait_for_selector(".sc-results")
            if opened is not None:
                page.locator(".sc-hit summary").nth(opened).click()
                page.wait_for_selector(".sc-why table")
            page.wait_for_timeout(1500)  # gradio fades in, and the page scrolls to its hits
            save_small(page.screenshot(), given.out / name)
        browser.close()


def save_small(png: bytes, path: Path) -> None:
    """Save a picture with 128 colours, which a page of flat areas does not miss."""
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()

"""Markdown report: report.md, with small images in a folder beside it."""

from pathlib import Path

from semcore.report.page import ReportView, shown_items
from semcore.report.rendering import markdown_template
from semcore.report.tables import COLUMNS
from semcore.runtime.files import atomic_text, write_bytes

IMAGE_FOLDER = "report_images"


def write_markdown(view: ReportView, folder: Path) -> Path:
    """Write report.md and the images it links to; images of an earlier report are removed.

    Returns:
        The path of report.md.
    """
    names = _write_pictures(view, folder / IMAGE_FOLDER)
    links = {image_id: f"{IMAGE_FOLDER}/{name}" for image_id, name in names.items()}
    path = folder / "report.md"
    with atomic_text(path) as handle:
        handle.write(markdown_template("report.md.jinja").render(view=view, columns=COLUMNS, links=links))
    for file in (folder / IMAGE_FOLDER).glob("*"):
        if file.name not in names.values():
            file.unlink()
    return path


def _write_pictures(view: ReportView, folder: Path) -> dict[str, str]:
    """Write every image once and return image_id -> file name."""
    names = {}
    for item in shown_items(view):
        if item.picture and item.item_id not in names:
            names[item.item_id] = f"{item.item_id}.{item.picture.kind}"
            write_bytes(folder / names[item.item_id], item.picture.data)
    return names

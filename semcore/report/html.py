"""HTML report: report.html, one self-contained file with images and style."""

from pathlib import Path

from semcore.report.chart import HEIGHT, WIDTH, height_of
from semcore.report.page import ReportView
from semcore.report.rendering import html_template
from semcore.report.tables import COLUMNS
from semcore.runtime.files import atomic_text


def write_html(view: ReportView, folder: Path) -> Path:
    """Write report.html, whose content security policy forbids scripts and external resources.

    Returns:
        The path of report.html.
    """
    axis = [(percent, height_of(percent)) for percent in (0, 25, 50, 75, 100)]
    template = html_template("report.html.jinja")
    path = folder / "report.html"
    with atomic_text(path) as handle:
        handle.write(template.render(view=view, columns=COLUMNS, axis=axis, width=WIDTH, height=HEIGHT))
    return path

"""Reports of a run folder: report.md, report.html and model cards, without loading a model.

`run_contents` reads; `tables`, `chart`, `examples` and `thumbnails` prepare; `page` assembles;
`markdown` and `html` write.
"""

from pathlib import Path

from semcore.report.html import write_html
from semcore.report.markdown import write_markdown
from semcore.report.model_cards import write_model_cards
from semcore.report.page import build_view
from semcore.report.run_contents import read_run

__all__ = ["write_model_cards", "write_report"]


def write_report(
    folder: Path, *, data: Path | None = None, num_per_outcome: int = 2, seed: int = 0
) -> tuple[Path, Path]:
    """Write report.md and report.html of an evaluated run into its folder.

    Args:
        folder: The run folder; only its files are read, and the dataset for sentences and images.
        data: Present path of the dataset; by default the one in the run's manifest.
        num_per_outcome: Examples per direction for each outcome of a query (found, put right, lost, ...).
        seed: Seed of the intervals, the tests and the choice of examples.

    Returns:
        The paths of report.md and report.html.

    Raises:
        UserError: The run has not been evaluated, its files are inconsistent, or there is no space to write.
    """
    view = build_view(read_run(folder, data), num_per_outcome=num_per_outcome, seed=seed)
    return write_markdown(view, folder), write_html(view, folder)

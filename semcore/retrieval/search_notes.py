"""Notes on a search: how far its confidence can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semcore.data.directions import Direction
from semcore.retrieval.hits import Hit
from semcore.retrieval.prior_settings import PriorSettings
from semcore.runtime.typed_commands import command
from semcore.verification import Fusion


def confidence_note(
    run: Path, fusion: Fusion | None, num_searched: int, *, fitted_prior: float, used_prior: float
) -> str:
    """Return a note on the confidence of hits; empty where it was fitted as they were searched.

    Fusion and calibration are fitted on val's items. Among more items there are more hard negatives, so the same
    score means a lower probability.

    Args:
        run: the run folder.
        fusion: what orders the hits; None where nothing was fitted.
        num_searched: items that are searched.
        fitted_prior: the prior's weight that the fusion was fitted with.
        used_prior: the prior's weight of the search.
    """
    if fusion is None or fusion.calibration is None:
        again = command("semcore", "evaluate", "--run", run)
        return f"no confidence: nothing was fitted on val for this order; `{again}` does"
    if fitted_prior != used_prior:
        return (
            f"confidence and the weights behind the order were fitted with prior weight {fitted_prior:.2f}, not with "
            f"{used_prior:.2f} as here: confidence is not to be trusted"
        )
    if fusion.num_items == num_searched:
        return ""
    how = "too high" if num_searched > fusion.num_items else "too low"
    return (
        f"confidence and the weights behind the order were fitted on val, {fusion.num_items:,} items; here "
        f"{num_searched:,} are searched, so that confidence is likely {how}"
    )


def prior_note(run: Path, settings: PriorSettings, direction: Direction) -> str:
    """Say why nothing of the identifiers' prior comes off, where that was not asked for; empty otherwise."""
    if settings.choice != "fit" or direction in settings.weights:
        return ""
    again = command("semcore", "evaluate", "--run", run)
    return f"the prior of identifiers is left in: nothing was fitted on val for {direction.words}; `{again}` does"


def no_match_note(hits: Sequence[Hit], threshold: float | None) -> str:
    """Say that no item answers the query, by the confidence of the best hit; empty where one does, or is not known.

    Args:
        hits: of one query, best first.
        threshold: of the search; None without one.
    """
    if threshold is None or not hits or not hits[0].no_match:
        return ""
    return (
        f"no match: the confidence of the best hit, {hits[0].confidence:.2f}, is below {threshold:.2f}, the threshold "
        "fitted on val"
    )

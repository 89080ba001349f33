"""Notes on a search: how far its confidence can be trusted, and whether it found no match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semcore.data.directions import Direction
from semcore.retrieval.hits import Hit
from semcore.retrieval.prior_settings import PriorSettings
from semcore.runtime.typed_commands import command
from semcore.verification import Fusion


def confidence_note(
    run: Path,
    fusion: Fusion | None,
    num_searched: int,
    *,
    fitted_prior: float,
    used_prior: float,
    lacks_scores: bool = False,
) -> str:
    """Return a note on the confidence of hits and on "no match"; empty where both were fitted as they were searched.

    Fusion, calibration and threshold are fitted on val's items. Among more items there are more hard negatives, so the
    same score means a lower probability, and queries without an answer score higher.

    Args:
        run: the run folder.
        fusion: what orders the hits; None where nothing was fitted.
        num_searched: items that are searched.
        fitted_prior: the prior's weight that the fusion was fitted with.
        used_prior: the prior's weight of the search.
        lacks_scores: the search leaves out a guide or dense vectors that the fusion was fitted with.
    """
    if fusion is None or fusion.calibration is None:
        again = command("semcore", "evaluate", "--run", run)
        return f"no confidence: nothing was fitted on val for this order; `{again}` does"
    if lacks_scores or fitted_prior != used_prior:
        other = f"prior weight {fitted_prior:.2f}, not with {used_prior:.2f} as here"
        if lacks_scores:
            other = "a guide or dense vectors that are left out here"
        undecided = ", and nothing says what is no match" if fusion.no_match is not None else ""
        return (
            f"confidence and the weights behind the order were fitted with {other}: confidence is not to be "
            f"trusted{undecided}"
        )
    if fusion.num_items == num_searched:
        return ""
    how, often = ("too high", "too seldom") if num_searched > fusion.num_items else ("too low", "too often")
    if fusion.no_match is not None:
        how += f" and no match said {often}"
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


def no_match_note(hits: Sequence[Hit]) -> str:
    """Say that no item answers the query, and by what; empty where one does, or that is not known.

    Args:
        hits: of one query, best first.
    """
    basis = hits[0].no_match_by if hits else None
    if basis is None or not hits[0].no_match:
        return ""
    return (
        f"no match: the scores of all candidates together come to {basis.value:.2f} ({basis.of}), below "
        f"{basis.below:.2f}, the threshold fitted on val"
    )

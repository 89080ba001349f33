"""The rule of "no match": a query has no answer where its candidates' scores come to less than a threshold.

What they come to is the log-sum-exp of their fused scores, by which the softmax behind the confidence divides. So it
says what a confidence cannot: not which candidate is the best one, but whether any of them fits. In the detection of
unknown inputs it is the negative energy (Liu et al., 2020), the confidence the greatest softmax probability (Hendrycks
& Gimpel, 2017). A candidate that occurs twice adds to the sum, where it halves the confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semcore.data.stages import existing_outputs
from semcore.runtime.errors import UserError
from semcore.runtime.typed_commands import command

LOG_SUM_EXP = "log_sum_exp"


@dataclass(frozen=True)
class NoMatchRule:
    """When a search says that no item answers its query.

    It holds for the scores that it was fitted with: those of one verifier, of one weight of the prior.

    Attributes:
        of: the name of what is compared.
        below: the threshold that it is compared with.
    """

    of: str
    below: float


def rule_of_data(content: Mapping[str, Any] | None) -> NoMatchRule | None:
    """Return a rule from its fields in verification.json; None where there is none.

    Raises:
        KeyError, TypeError: these are not its fields.
    """
    return None if content is None else NoMatchRule(str(content["of"]), float(content["below"]))


def require_present_rule(path: Path, content: Any) -> None:
    """Refuse a rule that compares something else: earlier versions wrote a bare number, a confidence.

    Args:
        path: verification.json.
        content: "no_match" in it.

    Raises:
        UserError: it is one of those.
    """
    of = content.get("of") if isinstance(content, Mapping) else "confidence"
    if content is not None and of != LOG_SUM_EXP:
        raise UserError(
            f"{path} decides what is no match by {of}, not by {LOG_SUM_EXP}: another version has written it; write it "
            f"anew with `{_evaluate_from_the_start(path.parent)}`"
        )


def _evaluate_from_the_start(run: Path) -> str:
    """Return the command line that measures a run with this version's settings, whatever those of its evaluation."""
    evaluate = command("semcore", "evaluate", "--run", run)
    written = [run / name for name in existing_outputs(run, "evaluate")]
    return f"{command('rm', '-r', *written)} && {evaluate}" if written else evaluate

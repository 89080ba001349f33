"""Registry of the verifiers: all that is said about each of them. Imports no torch.

A verifier is a file of `semcore/verification/` with a function that scores, and a line here. What asks for a
verifier's name, its prompts, its checkpoint, its place in a table or its option `--NAME-model` reads this registry. The
function scores either

    questions   (session, direction, questions) -> a list of scores a question; an `ordered` one takes `num_shifts` too
    pairs       (session, pairs of an image and a sentence, run) -> the score of each pair, whatever else is asked

and its session is a model session with prompts, unless `load` names another function in the same file:
(checkpoint, dataset, device) -> a session with `with_pictures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from semcore.data.directions import Direction
from semcore.runtime.errors import UserError


@dataclass(frozen=True)
class VerifierEntry:
    """What is known of a verifier.

    Attributes:
        meaning: a few words for the report.
        score: the function that scores, as "file of semcore/verification:name".
        scores: what it scores, "questions" or "pairs".
        model: whose checkpoint it has by default: one "trained" in the run, the "captioner", or one that is "named" by
            the user.
        prompts: names of the prompts that it reads, with {direction} where each direction has its own.
        load: name of the function that opens its checkpoint; "" for a model session.
        ordered: whether it shows the candidates of a question in an order, each by a letter.
        in_both: whether `--verifier both` measures it.
        what: what its checkpoint has to be, for messages, where that is "named".
    """

    meaning: str
    score: str
    scores: Literal["questions", "pairs"]
    model: Literal["trained", "captioner", "named"]
    prompts: tuple[str, ...] = ()
    load: str = ""
    ordered: bool = False
    in_both: bool = False
    what: str = ""

    def prompt_files(self) -> tuple[str, ...]:
        """Return the files of the prompts that it reads, of all directions."""
        names = [name.format(direction=direction) for name in self.prompts for direction in Direction]
        return tuple(f"{name}.jinja" for name in dict.fromkeys(names))


VERIFIERS: dict[str, VerifierEntry] = {
    "listwise": VerifierEntry(
        "chooses among all candidates by letter", "listwise:choose_where_possible", "questions", "trained",
        ("verify_{direction}",), ordered=True, in_both=True,
    ),
    "blocks": VerifierEntry(
        "the same, but reads each candidate by itself, once for all queries", "listwise:choose_where_possible",
        "questions", "trained", ("verify_{direction}",), ordered=True, in_both=True,
    ),
    "pointwise": VerifierEntry(
        "judges one candidate at a time", "pointwise:match_log_odds", "questions", "captioner",
        ("verify_pointwise_{direction}",),
    ),
    "likelihood": VerifierEntry(
        "how probable the captioner finds the sentence, given the picture", "likelihood:likelihood_gains", "pairs",
        "captioner", ("sentence_of_image", "sentence_alone"), in_both=True,
    ),
    "dual": VerifierEntry(
        "how near a dual encoder puts sentence and picture", "dual:similarities", "pairs", "named",
        load="load", what="CLIP or SigLIP",
    ),
    "itm": VerifierEntry(
        "how well BLIP or BLIP-2 finds that sentence and picture match", "itm:match_log_odds", "pairs", "named",
        load="load", what="BLIP-ITM or BLIP-2-ITM",
    ),
}  # fmt: skip
"""Name -> verifier, in the order of tables; "blocks" is the listwise verifier that was trained in candidate blocks."""

if TYPE_CHECKING:
    VerifierName = str
    VerifierChoice = str
else:  # what a setting may be, for the parser of the command line
    VerifierName = Literal[tuple(VERIFIERS)]
    VerifierChoice = Literal[(*VERIFIERS, "both", "all", "none")]

TRAINED = tuple(name for name, entry in VERIFIERS.items() if entry.model == "trained")
"""Those that a run trains."""


def model_setting(name: str) -> str:
    """Return the name of the setting that names a verifier's checkpoint.

    >>> model_setting("itm")
    'itm_model'
    """
    return f"{name}_model"


def checkpoint_to_name(name: str) -> UserError:
    """Return the error of a verifier whose checkpoint has not been named."""
    entry = VERIFIERS[name]
    return UserError(
        f"the {name} verifier needs a {entry.what} checkpoint, and none is named; name one with "
        f"--{name}-model CHECKPOINT"
    )

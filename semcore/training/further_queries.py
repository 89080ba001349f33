"""Further queries of an identifier model's training: captions (CART, AVG), images that ask for themselves (GRACE).

With those of all splits, val and test items are trained on: results are then transductive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from semcore.data.caption_files import read_captions
from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow
from semcore.data.identifier_tokens import tokens_file
from semcore.data.run_folder import RunFolder
from semcore.models.prompts import Prompts, load_prompts
from semcore.models.run_lineage import prompts_of
from semcore.runtime.errors import UserError
from semcore.runtime.long_lists import chosen
from semcore.runtime.typed_commands import data_command
from semcore.training.identifier_pairs import Example, identifiers_by_item, image_examples, text_examples
from semcore.training.image_inputs import Visuals

OWN_PROMPT, CAPTIONS = "identify_own", "captions.jsonl"
Further = Literal["none", "train", "all"]


def check_queries(captions: Further, images: Further, directions: Sequence[Direction]) -> None:
    """Refuse further queries for a direction that is not trained.

    Raises:
        UserError: they ask for images, and images are not retrieved.
    """
    for name, value in (("captions", captions), ("images", images)):
        if value != "none" and Direction.T2I not in directions:
            raise UserError(
                f"--queries.{name} {value} asks for the identifiers of images, and --directions "
                f"[{','.join(directions)}] trains none of them: add t2i, or give --queries.{name} none"
            )


def prompts_of_queries(directions: Sequence[Direction], images: Further) -> dict[str, str]:
    """Return file name -> sha256 of the prompts that a training reads."""
    used = prompts_of(["generator"], directions)
    if images != "none":
        name = f"{OWN_PROMPT}.jinja"
        used[name] = load_prompts().sha256[name]
    return used


def training_files(run: RunFolder, directions: Sequence[Direction], captions: Further) -> list[str]:
    """Return the files of the run that a training reads: identifiers, their new tokens, and captions that ask.

    Raises:
        UserError: there are no captions.
    """
    names = [*(f"{direction}.jsonl" for direction in directions), tokens_file(run / "identifiers")]
    files = [f"identifiers/{name}" for name in names]
    if captions == "none":
        return files
    if not (run / CAPTIONS).is_file():
        raise UserError(
            f"--queries.captions {captions} reads {run / CAPTIONS}, which is not there: write captions with "
            f"`{data_command('caption', '--run', run.path)}`, or give --queries.captions none"
        )
    return [*files, CAPTIONS]


def caption_examples(
    tokenizer: Any,
    prompts: Prompts,
    run: RunFolder,
    dataset: Dataset,
    rows: Sequence[IdentifierRow],
    which: Further,
    units: Mapping[str, Sequence[int]] | None = None,
) -> Sequence[Example]:
    """Return an example for each caption, which asks for its image's identifier as a sentence does.

    Args:
        tokenizer: with the identifiers' tokens.
        prompts: `identify_t2i` is used.
        run: holds captions.jsonl.
        dataset: holds the images.
        rows: identifiers of images, of all wanted splits.
        which: "none", those of the "train" split, or "all".
        units: as in `semcore.training.identifier_pairs.identifier_examples`.

    Raises:
        UserError: none is of an image with an identifier.
    """
    if which == "none":
        return []
    path = run / CAPTIONS
    identifiers = identifiers_by_item(rows)
    wanted = chosen(read_captions(path, dataset).items, lambda item: which == "all" or item.split == "train")
    pairs = ((item.text, identifier) for item in wanted for identifier in identifiers.get(item.item_id, ()))
    examples = text_examples(tokenizer, prompts, pairs, units)
    if not examples:
        raise UserError(f"none of the {len(wanted)} captions in {path} is of an image with an identifier")
    return examples


def with_own_images(
    groups: Sequence[Sequence[Example]],
    tokenizer: Any,
    prompts: Prompts,
    dataset: Dataset,
    rows: Sequence[IdentifierRow],
    which: Further,
    visuals: Visuals,
    units: Mapping[str, Sequence[int]] | None = None,
) -> Sequence[Sequence[Example]]:
    """Return the examples of i2t, image by image, with the question for the image's own identifier among them.

    So an image that asks for both stands in one row, and is read once.

    Args:
        groups: the examples of i2t.
        tokenizer: with the identifiers' tokens.
        prompts: `identify_own` is used.
        dataset: holds the images.
        rows: identifiers of images, of all wanted splits.
        which: "none", images of the "train" split, or "all".
        visuals: the source of the images.
        units: as in `semcore.training.identifier_pairs.identifier_examples`.
    """
    if which == "none":
        return groups
    identifiers = identifiers_by_item(rows)
    records = dataset.images if which == "all" else dataset.split("train")
    shown = [(record.image_id, identifiers.get(record.image_id, [])) for record in records]
    own = {made[0].images[0]: made for made in image_examples(tokenizer, prompts, OWN_PROMPT, shown, visuals, units)}
    joined = [[*group, *own.pop(group[0].images[0], [])] for group in groups]
    return [*joined, *own.values()]

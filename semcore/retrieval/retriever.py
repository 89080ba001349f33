"""Search a trained run from Python: a query -> beams -> candidates -> verification -> ranked hits.

from semcore import Retriever

retriever = Retriever.from_run("RUN")
hits = retriever.search(text="a red circle", top_k=10)
hits[0].item_id, hits[0].score, hits[0].confidence, hits[0].image_path
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal, get_args, overload

import numpy as np
import torch
from PIL import Image

from semcore.data.dataset import SPLITS, Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.images import open_image
from semcore.data.items_and_queries import Item, read_items
from semcore.data.run_folder import RunFolder
from semcore.models.checkpoint import Checkpoint
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.lineage import Mismatch
from semcore.models.run_checkpoints import generator_of, has_verifier, model_of
from semcore.models.run_lineage import TRAINED, check_search, require_trained_directions
from semcore.models.visual_features import encode_pictures
from semcore.retrieval.corpus import Corpus, build_corpus
from semcore.retrieval.corrected_generator import CorrectedGenerator
from semcore.retrieval.generator import Engine
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.prior_settings import (
    PRIOR_FILE,
    PriorChoice,
    PriorSettings,
    check_prior_weight,
    read_prior_settings,
)
from semcore.retrieval.saved_index import SavedIndexes
from semcore.retrieval.session import ModelSession, images_shown, load_session
from semcore.retrieval.shortlist import Shortlist, make_shortlist, rank
from semcore.retrieval.verifiers import VerifierName, verifier_scores
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.moved_checkpoints import find_checkpoint
from semcore.runtime.typed_commands import command
from semcore.verification import LETTERS, Fusion
from semcore.verification.score_fusion import FUSION_FILE, FusionSettings, read_fusion_settings

logger = logging.getLogger(__name__)
Picture = str | Path | bytes | BinaryIO | Image.Image | np.ndarray
"""What `semcore.data.images.open_image` takes: a file or what it holds, a picture in memory, or an array."""


@dataclass(frozen=True)
class Hit:
    """A ranked item.

    Attributes:
        item_id: an image's or a sentence's id.
        score: higher is better; comparable within one query only.
        identifier: what the model generated to find it.
        confidence: the probability, 0 to 1, that this item answers the query, as val's judgements say it: of hits
            with 0.8, four in five are right there. Several hits may be right, and none: they need not sum to 1.
            It never falls behind a lower hit's. Fitted on the corpus of val: where more items are searched it says
            too much (`Retriever.confidence_note`). None where nothing was fitted, and behind the shortlist.
        text: the sentence; None for an image.
        image_path: the image; None for a sentence.
    """

    item_id: str
    score: float
    identifier: str
    confidence: float | None = None
    text: str | None = None
    image_path: Path | None = None


@dataclass
class Retriever:
    """A run that can be searched; `Retriever.from_run` makes it.

    Models, the index of a direction and image features are loaded when they are first needed.

    Attributes:
        run: the run folder.
        dataset: what the run is about.
        generator: the identifier model.
        verifier: who verifies, "none" for nobody.
        fusion_settings: how the evaluation weighed verifiers, and how it asked them; empty where there was none.
        split: whose items are searched, None for all.
        num_beams: width of the beam.
        num_candidates: how many of the best are verified.
        dtype: precision of the verifier's model.
        device: where it runs.
        engine: who searches.
        base: where the checkpoint that the run was made with is now, None where it was.
        mismatches: what differs from what the models were made with, and was allowed.
        prior_settings: how much of the identifiers' prior comes off the generator's score, and what it is.
    """

    run: RunFolder
    dataset: Dataset
    generator: ModelSession
    verifier: VerifierName | Literal["none"]
    fusion_settings: FusionSettings
    split: str | None = None
    num_beams: int = 20
    num_candidates: int = len(LETTERS)
    dtype: Dtype = "auto"
    device: str | None = None
    engine: Engine = "semcore"
    base: str | Path | None = None
    mismatches: list[Mismatch] = field(default_factory=list)
    prior_settings: PriorSettings = field(default_factory=PriorSettings)
    _corrected: CorrectedGenerator | None = field(default=None, repr=False)
    _corpora: dict[Direction, Corpus] = field(default_factory=dict, repr=False)
    _verifier_session: ModelSession | None = field(default=None, repr=False)

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        *,
        data: str | Path | None = None,
        split: str = "all",
        verifier: VerifierName | Literal["auto", "none"] = "auto",
        num_beams: int = 20,
        num_candidates: int = len(LETTERS),
        dtype: Dtype = "auto",
        device: str | None = None,
        engine: Engine = "semcore",
        base: str | Path | None = None,
        allow_mismatch: Collection[str] = (),
        prior_weight: PriorChoice = "fit",
    ) -> Retriever:
        """Open a trained run.

        Args:
            run: the run folder.
            data: where the dataset is now; by default where the run's manifest says it was.
            split: search the items of "train", "val" or "test", or of "all".
            verifier: "auto" is the one the evaluation found better, else a trained listwise one (full
                attention before "blocks"), else the captioner's likelihood; it is asked and weighed as it was there.
            num_beams: width of the beam.
            num_candidates: how many of the best are verified, two to ten.
            dtype: "float32", "bfloat16", or "auto" for bfloat16 where the device multiplies it natively.
            device: where the models run; the fastest there is by default.
            engine: "semcore", or "transformers" for Hugging Face `generate`.
            base: where the checkpoint that the run was made with is now, should it have moved.
            allow_mismatch: kinds of lineage (`semcore.models.lineage.KINDS`) to go on with although they differ from
                what the models were made with; `mismatches` then holds what differs.
            prior_weight: how much of log p(identifier) comes off the generator's score: "fit" as the evaluation says,
                or a number from 0, the paper's score, to 1.

        Raises:
            UserError: the run is not trained, its dataset is gone, something differs from what its models were made
                with, or a number is out of range.
        """
        if split not in (*SPLITS, "all"):
            raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)} or all")
        folder = RunFolder(run)
        dataset = load_dataset(data or folder.data_folder())
        if not (1 if verifier == "none" else 2) <= num_candidates <= len(LETTERS):
            raise UserError(f"num_candidates must be from 2 to {len(LETTERS)}, found {num_candidates}")
        check_prior_weight(prior_weight, "prior_weight")
        chosen, fusion_settings = _choose_verifier(folder, verifier)
        models = {"generator": generator_of(folder)}
        if chosen != "none":
            models[chosen] = _verifier_model(folder, chosen, fusion_settings, base)
        mismatches = check_search(
            folder, dataset, models, fusion_settings.models, base, allow_mismatch, weighed=bool(fusion_settings.fusions)
        )
        for mismatch in mismatches:
            logger.warning("going on although %s", mismatch)
        model = load_for_inference(models["generator"], dtype=dtype, device=device, base=base)
        generator = load_session(model, dataset, folder / "features")
        only = None if split == "all" else split
        return cls(
            folder, dataset, generator, chosen, fusion_settings, only, num_beams, num_candidates, dtype, device, engine,
            base, mismatches, _prior_settings(folder, prior_weight, engine),
        )  # fmt: skip

    @overload
    def search(self, *, text: str, image: None = None, top_k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, *, text: list[str], image: None = None, top_k: int = 10) -> list[list[Hit]]: ...
    @overload
    def search(self, *, text: None = None, image: Picture, top_k: int = 10) -> list[Hit]: ...
    @overload
    def search(self, *, text: None = None, image: list[Picture], top_k: int = 10) -> list[list[Hit]]: ...
    def search(
        self,
        *,
        text: str | list[str] | None = None,
        image: Picture | list[Picture] | None = None,
        top_k: int = 10,
    ) -> list[Hit] | list[list[Hit]]:
        """Return the best items, best first: images for a text, sentences for an image.

        Args:
            text: a sentence, or a list of them.
            image: a picture, its file, its bytes or an array, or a list of them; made RGB and upright as everywhere.
            top_k: how many hits, at most.

        Returns:
            A list of hits; for a list of queries a list of lists.

        Raises:
            UserError: not exactly one of `text` and `image` is given, an image cannot be read, or a model was trained
                for the other direction only.
        """
        if (text is None) == (image is None):
            raise UserError("search needs either a text or an image")
        if top_k < 1:
            raise UserError(f"top_k must be at least 1, found {top_k}")
        if text is not None:
            hits = self._search(Direction.T2I, text if isinstance(text, list) else [text], [], top_k)
            return hits if isinstance(text, list) else hits[0]
        pictures = [
            _open(picture) for picture in (image if isinstance(image, list) else [image]) if picture is not None
        ]
        hits = self._search(Direction.I2T, [f"query {number}" for number in range(len(pictures))], pictures, top_k)
        return hits if isinstance(image, list) else hits[0]

    def confidence_note(self, direction: Direction) -> str:
        """Say how far the confidence of a direction's hits can be trusted; empty where it was fitted on such a corpus.

        Fusion and calibration are fitted on val's items. Among more items more look right, so that the same score
        promises less.
        """
        fusion = self.fusion_settings.fusions.get(self.verifier, {}).get(direction)
        searched = len(self._corpus(direction).items)
        if fusion is None or fusion.calibration is None:
            again = command("semcore", "evaluate", "--run", self.run.path)
            return f"no confidence: nothing was fitted on val for this order; `{again}` does"
        fitted, used = self.fusion_settings.prior_weights.get(direction, 0.0), self.prior_settings.weight(direction)
        if fitted != used:
            return (
                f"confidence and the weights behind the order were fitted with prior weight {fitted:.2f}, not with "
                f"{used:.2f} as here: confidence is not to be trusted"
            )
        if fusion.num_items == searched:
            return ""
        how = "too high" if searched > fusion.num_items else "too low"
        return (
            f"confidence and the weights behind the order were fitted on val, {fusion.num_items:,} items; here "
            f"{searched:,} are searched, so that confidence is likely {how}"
        )

    def prior_note(self, direction: Direction) -> str:
        """Say why nothing of the identifiers' prior comes off, where that was not asked for; empty otherwise."""
        if self.prior_settings.choice != "fit" or direction in self.prior_settings.weights:
            return ""
        again = command("semcore", "evaluate", "--run", self.run.path)
        return f"the prior of identifiers is left in: nothing was fitted on val for {direction.words}; `{again}` does"

    def _search(
        self, direction: Direction, queries: list[str], pictures: list[Image.Image], top_k: int
    ) -> list[list[Hit]]:
        self._require(direction)
        session, corpus = self.generator, self._corpus(direction)
        features = _features(session.checkpoint, queries, pictures)
        if self._corrected is None:
            self._corrected = CorrectedGenerator(session, self.prior_settings, self.run, self.dataset, self.engine)
        generated = self._corrected.generate(direction, queries, features, corpus, max(self.num_beams, top_k))
        shortlists = [
            make_shortlist(query, own, corpus.items, self.num_candidates)
            for query, own in zip(queries, generated, strict=True)
        ]
        scores = self._verify(direction, shortlists, pictures)
        return [self._hits(direction, *row, corpus)[:top_k] for row in zip(shortlists, scores, generated, strict=True)]

    def _require(self, direction: Direction) -> None:
        """Check that the models were trained for a direction."""
        own = {"generator": generator_of(self.run)}
        if self.verifier in TRAINED:
            own[self.verifier] = model_of(self.run, self.verifier)
        require_trained_directions(own, [direction])

    def _corpus(self, direction: Direction) -> Corpus:
        if direction not in self._corpora:
            items = read_items(self.run, self.dataset, direction, self.split)
            session = self.generator
            saved = SavedIndexes(self.run, f"{direction}-{self.split or 'all'}")
            self._corpora[direction] = build_corpus(session.checkpoint, session.prompts, direction, items, saved)
        return self._corpora[direction]

    def _verify(
        self, direction: Direction, shortlists: list[Shortlist], pictures: list[Image.Image]
    ) -> list[list[float]]:
        """Return the verifier's score of each candidate; zeros without a verifier."""
        if self.verifier == "none":
            return [[0.0] * len(shortlist.items) for shortlist in shortlists]
        if self._verifier_session is None:
            path = _verifier_model(self.run, self.verifier, self.fusion_settings, self.base)
            model = load_for_inference(path, dtype=self.dtype, device=self.device, base=self.base)
            self._verifier_session = load_session(model, self.dataset, self.run / "features")
        session = self._verifier_session
        if direction.items_are_images:
            features = session.features.of(images_shown(direction, shortlists))
        else:
            features = _features(session.checkpoint, [own.query for own in shortlists], pictures)
        return verifier_scores(
            self.verifier,
            session.checkpoint,
            session.prompts,
            direction,
            shortlists,
            features,
            num_shifts=self.fusion_settings.num_shifts,
            blocks=session.blocks,
        )

    def _hits(
        self,
        direction: Direction,
        shortlist: Shortlist,
        scores: Sequence[float],
        generated: Sequence[GeneratedHit],
        corpus: Corpus,
    ) -> list[Hit]:
        """Return the verified items, and behind them the others as the generator ranked them."""
        fusion = self.fusion_settings.fusions.get(self.verifier, {}).get(direction, Fusion())
        hits = [_hit(*row) for row in rank(shortlist, scores, fusion)]
        step = hits[-1].score - shortlist.generator[-1]
        rest = generated[len(shortlist.items) :]
        return hits + [_hit(corpus.items[hit.item_id], hit.score + step, None) for hit in rest]


def _prior_settings(run: RunFolder, choice: PriorChoice, engine: Engine) -> PriorSettings:
    """Return how much of the prior comes off: as the evaluation recorded it, or as asked for."""
    path = run / PRIOR_FILE
    known = read_prior_settings(path) if path.exists() else PriorSettings(choice="fit")
    if known.in_search and engine != "semcore":
        raise UserError(f"{path} takes the prior off in the beam search, which engine {engine} cannot: choose semcore")
    if choice == "fit":
        return known
    return replace(known, weights=dict.fromkeys(map(str, Direction), float(choice)), choice=float(choice))


def _choose_verifier(
    run: RunFolder, wish: VerifierName | Literal["auto", "none"]
) -> tuple[VerifierName | Literal["none"], FusionSettings]:
    """Return who verifies, and what an evaluation has fitted."""
    path = run / FUSION_FILE
    fusion_settings = read_fusion_settings(path) if path.exists() else FusionSettings("", {})
    if wish == "auto":
        if fusion_settings.verifier in (*get_args(VerifierName), "none"):
            wish = fusion_settings.verifier  # type: ignore[assignment]
        else:
            wish = "listwise" if has_verifier(run) else "blocks" if has_verifier(run, "blocks") else "likelihood"
    chosen: VerifierName | Literal["none"] = wish  # type: ignore[assignment]
    return chosen, fusion_settings


def _verifier_model(
    run: RunFolder, verifier: VerifierName, fusion_settings: FusionSettings, base: str | Path | None
) -> str:
    """Return where a verifier's checkpoint is now: the one that the evaluation was told to ask, or the run's own."""
    named = fusion_settings.models.get(verifier)
    if named is None:
        return model_of(run, verifier, base)
    known = run.manifest().get("stages", {}).get("evaluate", {}).get("inputs", {}).get(f"the {verifier} model")
    missing = f"the {verifier} verifier of {run.path}, {named}, is no longer there; say where it is with --base FOLDER"
    return find_checkpoint(named, known, given=base, missing=missing)


def _features(
    checkpoint: Checkpoint, queries: Sequence[str], pictures: Sequence[Image.Image]
) -> dict[str, torch.Tensor]:
    return dict(zip(queries, encode_pictures(checkpoint, pictures), strict=True)) if pictures else {}


def _hit(item: Item, score: float, confidence: float | None) -> Hit:
    return Hit(item.item_id, score, item.identifier, confidence, item.text or None, item.image_path)


def _open(picture: Picture) -> Image.Image:
    try:
        return open_image(picture)
    except UnreadableImage as error:
        name = picture if isinstance(picture, str | Path) else getattr(picture, "filename", "") or "the picture given"
        raise UserError(f"{name} cannot be read: {error}; give a picture such as a PNG or a JPEG") from None

"""Retriever of a trained run: from a query to verified, ranked hits.

from semcore import Retriever

retriever = Retriever.from_run("RUN")
hits = retriever.search(text="a red circle", top_k=10)
hits[0].item_id, hits[0].score, hits[0].confidence, hits[0].image_path
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

from PIL import Image

from semcore.data.corpus_changes import CorpusChanges, read_changes, with_added_images
from semcore.data.dataset import SPLITS, Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.lineage import Mismatch, trained_directions
from semcore.models.run_checkpoints import generator_of, model_of
from semcore.models.run_lineage import TRAINED, check_search, require_trained_directions
from semcore.models.session import ModelSession, load_session
from semcore.models.verifier_registry import VERIFIERS, VerifierName
from semcore.retrieval.candidates import Search
from semcore.retrieval.corpus import Corpus, build_corpus, searched_items
from semcore.retrieval.corrected_generator import CorrectedGenerator
from semcore.retrieval.explanation import PriorShare, Searched, explain, item_of
from semcore.retrieval.generator import Engine
from semcore.retrieval.hits import GeneratedHit, Hit
from semcore.retrieval.prior_settings import PriorChoice, PriorSettings, prior_settings_of
from semcore.retrieval.query_pictures import Picture, open_picture
from semcore.retrieval.saved_index import SavedIndexes
from semcore.retrieval.search_notes import confidence_note
from semcore.retrieval.search_settings import SearchSettings, search_settings_of
from semcore.retrieval.search_sides import SearchSides
from semcore.retrieval.shortlist import Shortlist, hits_of, make_shortlist
from semcore.retrieval.verifier_choice import choose_verifier, verifier_model
from semcore.retrieval.verifiers import open_verifier, verifier_scores
from semcore.runtime.errors import UserError
from semcore.runtime.typed_commands import command
from semcore.verification import LETTERS, Fusion
from semcore.verification.score_fusion import FusionSettings

logger = logging.getLogger(__name__)


@dataclass
class Retriever:
    """A searchable run, made by `Retriever.from_run`.

    Models, the index of a direction and image features are loaded on first use.

    Attributes:
        run: the run folder.
        dataset: the run's dataset, without what was added to the corpus.
        generator: the identifier model.
        verifier: name of the verifier, or "none".
        fusion_settings: fitted fusions and the number of cyclic shifts from verification.json; empty without an
            evaluation.
        split: the split whose items are searched, None for all.
        num_beams: width of the beam.
        num_candidates: how many of the best hits are verified.
        dtype: precision of the verifier's model.
        device: its device.
        engine: beam-search backend.
        base: present path of the checkpoint that the run was made with, None if it has not moved.
        mismatches: lineage mismatches that were allowed.
        prior_settings: the share of the identifiers' prior that comes off the generator's score, and what it is.
        search_settings: what guides the search, and where candidates come from.
        changes: items that were added to the corpus and removed from it, as far as this retriever knows of them.
    """

    run: RunFolder
    dataset: Dataset
    generator: ModelSession
    verifier: VerifierName
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
    search_settings: SearchSettings = field(default_factory=SearchSettings)
    changes: CorpusChanges = field(default_factory=CorpusChanges)
    _generator: CorrectedGenerator | None = field(default=None, repr=False)
    _sides: SearchSides | None = field(default=None, repr=False)
    _corpora: dict[Direction, Corpus] = field(default_factory=dict, repr=False)
    _verifier_session: Any = field(default=None, repr=False)

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        *,
        data: str | Path | None = None,
        split: str = "all",
        verifier: VerifierName = "auto",
        num_beams: int = 20,
        num_candidates: int = len(LETTERS),
        dtype: Dtype = "auto",
        device: str | None = None,
        engine: Engine = "semcore",
        base: str | Path | None = None,
        allow_mismatch: Collection[str] = (),
        prior_weight: PriorChoice = "fit",
        plain: bool = False,
    ) -> Retriever:
        """Open a trained run.

        Args:
            run: the run folder.
            data: present path of the dataset; by default the one in the run's manifest.
            split: search the items of "train", "val" or "test", or of "all".
            verifier: "auto" is the evaluation's best one, else a trained listwise one (full attention before
                "blocks"), else the captioner's likelihood; its shifts and fusion are those of the evaluation.
            num_beams: width of the beam.
            num_candidates: how many of the best hits are verified: two to ten, or more where the verifier
                gives them no letters.
            dtype: "float32", "bfloat16", or "auto" for bfloat16 where the device multiplies it natively.
            device: the models' device; the fastest one by default.
            engine: "semcore", or "transformers" for Hugging Face `generate`.
            base: present path of the checkpoint that the run was made with, if it has moved.
            allow_mismatch: kinds of lineage mismatch (`semcore.models.lineage.KINDS`) that are allowed; `mismatches`
                then holds them.
            prior_weight: share of log p(identifier) that comes off the generator's score: "fit" as the evaluation says,
                or a number from 0, the paper's score, to 1.
            plain: leave out what guided the evaluation's search, and the candidates of its dense vectors.

        Raises:
            UserError: the run is not trained, its dataset is missing, there is a lineage mismatch, or a number is out
                of range.
        """
        if split not in (*SPLITS, "all"):
            raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)} or all")
        folder = RunFolder(run)
        dataset = load_dataset(data or folder.data_folder())
        chosen, fusion_settings = choose_verifier(folder, verifier)
        lettered = chosen in VERIFIERS and VERIFIERS[chosen].ordered
        if num_candidates < (1 if verifier == "none" else 2) or (lettered and num_candidates > len(LETTERS)):
            most = f"from 2 to {len(LETTERS)}" if lettered else "2 or more"
            raise UserError(f"num_candidates must be {most}, found {num_candidates}")
        models = {"generator": generator_of(folder)}
        if chosen != "none":
            models[chosen] = verifier_model(folder, chosen, fusion_settings, base)
        mismatches = check_search(
            folder, dataset, models, fusion_settings.models, base, allow_mismatch, fused=bool(fusion_settings.fusions)
        )
        for mismatch in mismatches:
            logger.warning("going on although %s", mismatch)
        model = load_for_inference(models["generator"], dtype=dtype, device=device, base=base)
        changes = read_changes(folder)
        generator = load_session(model, with_added_images(folder, dataset, changes), folder / "features")
        only = None if split == "all" else split
        sides = SearchSettings() if plain else search_settings_of(folder, engine)
        return cls(
            folder, dataset, generator, chosen, fusion_settings, only, num_beams, num_candidates, dtype, device, engine,
            base, mismatches, prior_settings_of(folder, prior_weight, engine), sides, changes,
        )  # fmt: skip

    def with_settings(
        self,
        *,
        verifier: VerifierName | None = None,
        num_beams: int | None = None,
        prior_weight: PriorChoice | None = None,
        allow_mismatch: Collection[str] = (),
    ) -> Retriever:
        """Return a retriever of the same run with other settings; it shares models, indexes and features.

        Args:
            verifier: as in `from_run`; None keeps this one's.
            num_beams: width of the beam; None keeps this one's.
            prior_weight: as in `from_run`; None keeps this one's.
            allow_mismatch: as in `from_run`, for another verifier's model.

        Raises:
            UserError: there is no such verifier, its model is not trained or not found, there is a lineage mismatch,
                or the weight is out of range.
        """
        changed = replace(self, num_beams=self.num_beams if num_beams is None else num_beams)
        if verifier is not None:
            changed._choose_verifier(verifier, allow_mismatch)
        if changed.verifier == self.verifier and self.verifier != "none":
            changed._verifier_session = self._verifier_with({})
        if prior_weight is not None:
            changed.prior_settings = prior_settings_of(self.run, prior_weight, self.engine)
        if changed.prior_settings != self.prior_settings:
            changed._generator = None
        return changed

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
            image: an image, its file, its bytes or an array (height, width, 3), or a list of them; made RGB and upright
                by `open_image`.
            top_k: number of hits, at most.

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
            hits = self._search(Direction.T2I, text if isinstance(text, list) else [text], {}, top_k)
            return hits if isinstance(text, list) else hits[0]
        given = [picture for picture in (image if isinstance(image, list) else [image]) if picture is not None]
        pictures = {f"query {number}": open_picture(picture) for number, picture in enumerate(given)}
        hits = self._search(Direction.I2T, list(pictures), pictures, top_k)
        return hits if isinstance(image, list) else hits[0]

    def explain(
        self, *, item_id: str, text: str | None = None, image: Picture | None = None, top_k: int = 10
    ) -> dict[str, Any]:
        """Explain why a search finds an item, or where it loses it; of a hit, `hit.explain()` says the same.

        Args:
            item_id: the item, whether it is found or not; the right one of a query, say.
            text: a sentence.
            image: or an image, as in `search`.
            top_k: as in `search`: it may widen the beam.

        Returns:
            Plain data that JSON can hold; `semcore.retrieval.explanation` says what is in it.

        Raises:
            UserError: as `search`, or there is no such item among those that are searched.
        """
        if (text is None) == (image is None):
            raise UserError("an explanation needs either a text or an image")
        direction = Direction.T2I if image is None else Direction.I2T
        item_of(self._corpus(direction), item_id)
        pictures = {} if image is None else {"query 0": open_picture(image)}
        [searched] = self._find(direction, [text] if text is not None else ["query 0"], pictures, top_k)
        return self._explain(searched, item_id)

    def threshold(self, direction: Direction) -> float | None:
        """Return the confidence below which a direction's best hit is no match; None where none was fitted."""
        return self._fusion(direction).no_match

    def refreshed(self) -> Retriever:
        """Return a retriever of the corpus as it is now, with the same models; this one goes on with what it has.

        Raises:
            UserError: the changes of the corpus cannot be read.
        """
        changes = read_changes(self.run)
        if changes.number == self.changes.number:
            return self
        paths = with_added_images(self.run, self.dataset, changes).image_paths
        verifier = self._verifier_session
        return replace(
            self,
            changes=changes,
            generator=self.generator.with_files(paths, self.run / "features"),
            _generator=None,
            _sides=None,
            _corpora={},
            _verifier_session=None if verifier is None else verifier.with_files(paths, self.run / "features"),
        )

    def items(self, direction: Direction) -> Mapping[str, Item]:
        """Return the items that a direction finds, by id.

        Raises:
            UserError: a model was trained for the other direction only.
        """
        return self._corpus(direction).items

    def confidence_note(self, direction: Direction) -> str:
        """Return a note on the confidence of a direction's hits; empty where it was fitted as they are searched."""
        return confidence_note(
            self.run.path,
            self.fusion_settings.fusions.get(self.verifier, {}).get(direction),
            len(self._corpus(direction).items),
            fitted_prior=self.fusion_settings.prior_weights.get(direction, 0.0),
            used_prior=self.prior_settings.weight(direction),
        )

    def prior_note(self, direction: Direction) -> str:
        """Say why nothing of the identifiers' prior comes off, where that was not asked for; empty otherwise."""
        if self.prior_settings.choice != "fit" or direction in self.prior_settings.weights:
            return ""
        again = command("semcore", "evaluate", "--run", self.run.path)
        return f"the prior of identifiers is left in: nothing was fitted on val for {direction.words}; `{again}` does"

    def _search(
        self, direction: Direction, queries: list[str], pictures: Mapping[str, Image.Image], top_k: int
    ) -> list[list[Hit]]:
        items = self._corpus(direction).items
        return [
            [
                hit.explained_by(partial(self._explain, own))
                for hit in hits_of(own.shortlist, own.verifier_scores, own.fusion, own.generated, items)[:top_k]
            ]
            for own in self._find(direction, queries, pictures, top_k)
        ]

    def _find(
        self, direction: Direction, queries: list[str], pictures: Mapping[str, Image.Image], top_k: int
    ) -> list[Searched]:
        """Return what the generator finds for each query, and the verifier's scores of the best."""
        session, corpus = self.generator.with_pictures(pictures), self._corpus(direction)
        num_beams = max(self.num_beams, top_k)
        if self._has_sides:
            self._beside.show(pictures)
        generated = self._corrected.generate(session, direction, queries, corpus, num_beams)
        shortlists = self._shortlists(session, direction, queries, corpus, generated)
        scores = self._verify(direction, shortlists, pictures)
        fusion = self._fusion(direction)
        return [
            Searched(direction, query, pictures.get(query), num_beams, tuple(found), shortlist, tuple(own), fusion)
            for query, found, shortlist, own in zip(queries, generated, shortlists, scores, strict=True)
        ]

    @property
    def _corrected(self) -> CorrectedGenerator:
        if self._generator is None:
            self._generator = CorrectedGenerator(
                self.generator, self.prior_settings, self.run, self.dataset, self.engine,
                self._beside.guide if self._has_sides else None,
            )  # fmt: skip
        return self._generator

    @property
    def _has_sides(self) -> bool:
        settings = self.search_settings
        return settings.guide.kind != "none" or settings.candidates.source != "generated"

    @property
    def _beside(self) -> SearchSides:
        if self._sides is None:
            pictured = with_added_images(self.run, self.dataset, self.changes)
            self._sides = SearchSides(self.search_settings, self.run, pictured, self.generator, self.device)
        return self._sides

    def _shortlists(
        self,
        session: ModelSession,
        direction: Direction,
        queries: list[str],
        corpus: Corpus,
        generated: list[list[GeneratedHit]],
    ) -> list[Shortlist]:
        """Return what is verified of each query: the generator's best hits, or those of both sides."""
        if self.search_settings.candidates.source == "generated":
            return [
                make_shortlist(query, own, corpus.items, self.num_candidates)
                for query, own in zip(queries, generated, strict=True)
            ]
        guide, priors = self._corrected.guide(direction, corpus), self._corrected.log_priors(direction)
        search = Search(session, direction, corpus, guide, priors)
        share = self.prior_settings.weight(direction)
        return self._beside.shortlists(search, queries, generated, share, self.num_candidates)

    def _explain(self, searched: Searched, item_id: str) -> dict[str, Any]:
        direction, picture = searched.direction, searched.picture
        pictures = {} if picture is None else {searched.query: picture}
        corpus = self._corpus(direction)
        identifier = searched.identifier_of(item_of(corpus, item_id))
        prefixes, correction = self._corrected.of_identifier(direction, corpus, identifier)
        return explain(
            searched,
            item_id,
            run=self.run,
            corpus=corpus,
            generator=self.generator.with_pictures(pictures),
            prior=PriorShare(self.prior_settings.weight(direction), prefixes, correction),
            verifier=self.verifier,
            verifier_session=self._verifier_with(pictures) if self.verifier != "none" else None,
            num_shifts=self.fusion_settings.num_shifts,
        )

    def _fusion(self, direction: Direction) -> Fusion:
        return self.fusion_settings.fusions.get(self.verifier, {}).get(direction, Fusion())

    def _corpus(self, direction: Direction) -> Corpus:
        """Return what is searched in a direction; at its first use the models have to be trained for it."""
        if direction not in self._corpora:
            models = {"generator": generator_of(self.run)}
            if self.verifier in TRAINED:
                models[self.verifier] = model_of(self.run, self.verifier)
            require_trained_directions(models, [direction])
            items = searched_items(self.run, self.dataset, direction, self.split, self.changes)
            saved = SavedIndexes(self.run, f"{direction}-{self.split or 'all'}")
            self._corpora[direction] = build_corpus(self.generator, direction, items, saved)
        return self._corpora[direction]

    def _verify(
        self, direction: Direction, shortlists: list[Shortlist], pictures: Mapping[str, Image.Image]
    ) -> list[list[float]]:
        """Return the verifier's score of each candidate; zeros without a verifier."""
        if self.verifier == "none":
            return [[0.0] * len(shortlist.items) for shortlist in shortlists]
        return verifier_scores(
            self.verifier,
            self._verifier_with(pictures),
            direction,
            shortlists,
            num_shifts=self.fusion_settings.num_shifts,
        )

    def _verifier_with(self, pictures: Mapping[str, Image.Image]) -> Any:
        """Return the verifier's session, with the pictures of the queries; loaded at its first use."""
        if self._verifier_session is None:
            path = verifier_model(self.run, self.verifier, self.fusion_settings, self.base)
            pictured = with_added_images(self.run, self.dataset, self.changes)
            self._verifier_session = open_verifier(
                self.verifier, path, pictured, self.run / "features",
                dtype=self.dtype, device=self.device, base=self.base,
            )  # fmt: skip
        return self._verifier_session.with_pictures(pictures)

    def _choose_verifier(self, wish: VerifierName, allow_mismatch: Collection[str]) -> None:
        """Take another verifier, and check its model against the run."""
        chosen, fusion_settings = choose_verifier(self.run, wish)
        if chosen == self.verifier:
            return
        models = {"generator": generator_of(self.run)}
        if chosen != "none":
            models[chosen] = verifier_model(self.run, chosen, fusion_settings, self.base)
        self.mismatches = check_search(
            self.run, self.dataset, models, fusion_settings.models, self.base, allow_mismatch,
            fused=bool(fusion_settings.fusions),
        )  # fmt: skip
        self.verifier, self.fusion_settings, self._verifier_session = chosen, fusion_settings, None
        if chosen in TRAINED:  # elsewhere a corpus is built anew, and then refused
            trained = trained_directions(models[chosen])
            self._corpora = {direction: own for direction, own in self._corpora.items() if direction in trained}

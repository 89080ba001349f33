"""An opened run: its models, corpora and settings of the search, loaded on first use and shared by its copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from PIL import Image

from semcore.data.corpus_changes import CorpusChanges, read_changes, with_added_images
from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.models.inference import Dtype
from semcore.models.lineage import Mismatch
from semcore.models.run_checkpoints import generator_of, model_of
from semcore.models.run_lineage import TRAINED, require_trained_directions
from semcore.models.session import ModelSession
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.corpus import Corpus, build_corpus, searched_items
from semcore.retrieval.corrected_generator import CorrectedGenerator
from semcore.retrieval.generator import Engine
from semcore.retrieval.prior_settings import PriorSettings
from semcore.retrieval.saved_index import SavedIndexes
from semcore.retrieval.search_settings import SearchSettings
from semcore.retrieval.search_sides import SearchSides
from semcore.retrieval.verifier_choice import verifier_model
from semcore.retrieval.verifiers import open_verifier
from semcore.verification import LETTERS, Fusion
from semcore.verification.no_match_rule import NoMatchRule
from semcore.verification.score_fusion import FusionSettings


@dataclass
class OpenedRun:
    """A run that is open, with the settings that it is searched with; `semcore.retrieval.opening` opens it.

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
        changes: items that were added to the corpus and removed from it, as far as is known here.
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

    def no_match_rule(self, direction: Direction) -> NoMatchRule | None:
        """Return when a direction's search says no match; None where nothing was fitted for a search as this one."""
        return self._fusion(direction).no_match

    def items(self, direction: Direction) -> Mapping[str, Item]:
        """Return the items that a direction finds, by id.

        Raises:
            UserError: a model was trained for the other direction only.
        """
        return self._corpus(direction).items

    def refreshed(self) -> Self:
        """Return the run with the corpus as it is now, with the same models; this one goes on with what it has.

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

    def _fusion(self, direction: Direction) -> Fusion:
        """Return what orders the hits; its threshold is of no use where its scores are others than those fitted."""
        fusion = self.fusion_settings.fusions.get(self.verifier, {}).get(direction, Fusion())
        as_fitted = self._fitted_prior(direction) == self.prior_settings.weight(direction)
        return fusion if as_fitted and not self._lacks_scores(direction) else replace(fusion, no_match=None)

    def _fitted_prior(self, direction: Direction) -> float:
        return self.fusion_settings.prior_weights.get(direction, 0.0)

    def _lacks_scores(self, direction: Direction) -> bool:
        """Return whether the fusion was fitted with a guide or dense vectors that this search leaves out."""
        fusion = self.fusion_settings.fusions.get(self.verifier, {}).get(direction, Fusion())
        return bool(fusion.further) and not self._has_sides

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

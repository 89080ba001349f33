"""Maker of items for images that come later: caption, features, identifier and prior, as the run's own items have them.

Models are loaded at their first use and stay loaded, so that one maker serves many additions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.corpus_changes import read_changes, with_added_images
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.identifiers.later_items import open_later
from semcore.identifiers.scheme import IdentifyLater, LaterItems, LaterRows
from semcore.identifiers.sentence_encoder import Encode, embed, load_encoder
from semcore.models.captioning.local import Caption
from semcore.models.captioning.run_captioner import RunCaptioner, load_run_captioner
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.lineage import Mismatch, refuse_others, trained_directions
from semcore.models.prompts import load_prompts
from semcore.models.run_checkpoints import captioner_of, generator_of, generator_start_of, recorded_captioner
from semcore.models.run_lineage import check_run_models
from semcore.models.session import ModelSession, load_session
from semcore.models.visual_features import FeatureStore
from semcore.retrieval.identifier_vectors import CAPTION, MODEL, VectorSource, load_projection
from semcore.retrieval.prior_settings import prior_settings_of
from semcore.retrieval.priors import Priors, PriorSample
from semcore.runtime.errors import UserError
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.moved_checkpoints import find_checkpoint
from semcore.runtime.typed_commands import data_command


@dataclass
class ItemMaker:
    """What makes items of images; `ItemMaker.open` checks that it does so as for the run's own items.

    Attributes:
        run: the run folder.
        dataset: that the run's identifiers were made from.
        dtype: precision of the generator.
        device: the models' device; the fastest one by default.
        base: present path of the checkpoint that the run was made with, if it has moved.
        given_generator: a session of the generator that is loaded already, a `Retriever`'s say.
    """

    run: RunFolder
    dataset: Dataset
    dtype: Dtype = "auto"
    device: str | None = None
    base: str | Path | None = None
    given_generator: ModelSession | None = None

    @classmethod
    def open(
        cls,
        run: str | Path,
        *,
        data: str | Path | None = None,
        dtype: Dtype = "auto",
        device: str | None = None,
        base: str | Path | None = None,
        allow_mismatch: Collection[str] = (),
        generator: ModelSession | None = None,
    ) -> ItemMaker:
        """Compare the models and prompts of a run with those that its items were made with; nothing is loaded yet.

        Args:
            run: the run folder, trained.
            data: present path of the dataset; by default the one in the run's manifest.
            dtype: precision of the generator; the captioner has that of the stage `caption`.
            device: the models' device; the fastest one by default.
            base: present path of the checkpoint that the run was made with, if it has moved.
            allow_mismatch: kinds of lineage mismatch that are allowed.
            generator: a session of the generator that is loaded already.

        Raises:
            UserError: the run is not trained, its dataset is missing, or there is a mismatch.
        """
        folder = RunFolder(run)
        dataset = load_dataset(data or folder.data_folder())
        models = {"generator": generator_of(folder)}
        if recorded_captioner(folder) is not None:
            models["likelihood"] = captioner_of(folder, moved=base)  # whose model is the captioner
            refuse_others(_changed_prompt(folder), allow_mismatch)
        check_run_models(folder, dataset, models, directions=(), base=base, allow=allow_mismatch)
        return cls(folder, dataset, dtype, device, base, generator)

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """The directions that the generator was trained for."""
        return trained_directions(generator_of(self.run))

    @cached_property
    def generator(self) -> ModelSession:
        """The generator."""
        if self.given_generator is not None:
            return self.given_generator
        place = generator_of(self.run)
        model = load_for_inference(place, dtype=self.dtype, device=self.device, base=self.base)
        return load_session(
            model, with_added_images(self.run, self.dataset, read_changes(self.run)), self.run / "features"
        )

    @cached_property
    def captioner(self) -> RunCaptioner:
        """The model that wrote the run's captions."""
        return load_run_captioner(self.run, device=self.device, moved=self.base)

    @cached_property
    def identify_later(self) -> IdentifyLater:
        """What makes identifiers, as the run's scheme does; refuses a scheme that has none for later items."""
        return open_later(self.run / "identifiers", self._settings)

    @cached_property
    def encoder(self) -> Encode:
        """The sentence encoder that the run's identifiers were made with."""
        return load_encoder(self._place("encoder", "sentence encoder"), self.device)

    @cached_property
    def vectors(self) -> VectorSource:
        """What makes the vectors that the run's codes are of."""
        folder, settings = self.run / "identifiers", self._settings
        source, pool = settings["vectors"], settings["vectors_pool"]
        if source not in (CAPTION, MODEL):
            source = self._place("vectors", "checkpoint of the vectors")

        def embed_texts(texts: Sequence[str]) -> np.ndarray:
            return embed(texts, self.encoder, tokens_per_batch=settings["tokens_per_batch"])

        return VectorSource(
            source, pool, embed_texts, lambda: generator_start_of(self.run, self.base), self.run / "features",
            self.device, load_projection(folder) if (source, pool) == (MODEL, "flatten") else None,
        )  # fmt: skip

    def require_later_identifiers(self) -> None:
        """Refuse a run whose scheme has no identifiers for items that come later; errors as `open_later`."""
        self.identify_later  # noqa: B018

    def caption(self, pictures: Mapping[str, Path], *, progress: bool = False) -> list[Caption]:
        """Caption pictures (image id -> file), and store their visual features in the run."""
        return self.captioner.caption(pictures, progress=progress) if pictures else []

    def identify(
        self,
        captions: Sequence[TextItem],
        sentences: Sequence[TextItem],
        pictures: Mapping[str, Path],
        taken: Callable[[], tuple[Collection[str], Collection[str]]],
    ) -> LaterRows:
        """Return the rows of images and of their sentences; none of these where the scheme gives them none.

        Args:
            captions: of the images.
            sentences: about them.
            pictures: image id -> file.
            taken: returns the identifiers that images of the corpus have, and those that its sentences have.
        """
        return self.identify_later(
            LaterItems(
                captions,
                sentences,
                lambda: self.encoder,
                lambda: self.vectors.of(captions, sentences, pictures),
                taken,
            )
        )

    def store_features(self, pictures: Mapping[str, Path], *, progress: bool = False) -> None:
        """Store the features of pictures (image id -> file) as the generator sees them, unless they are stored."""
        FeatureStore(self.generator.checkpoint, pictures, self.run / "features").add(pictures, progress=progress)

    def fill_priors(self, direction: Direction, identifiers: Collection[str]) -> None:
        """Estimate the prior of identifiers, and keep it in the run, where searches take some of it off."""
        settings = prior_settings_of(self.run, "fit", "semcore")
        if settings.weight(direction) and identifiers:
            sample = PriorSample(settings.num_queries, settings.seed)
            Priors.open(self.generator, direction, sample, self.run, self.dataset).fill(identifiers)

    @property
    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self._stage("identifiers")["settings"]
        return settings

    def _place(self, setting: str, what: str) -> str:
        """Return where the checkpoint that a setting of the identifiers names is now.

        Raises:
            UserError: it is gone, or another one is there.
        """
        stage = self._stage("identifiers")
        name: str = stage["settings"][setting]
        if (content := stage.get("by_content", {}).get(setting)) is None:
            return name
        missing = f"the {what} of {self.run.path} is no longer at {name}; put it back there"
        place = find_checkpoint(name, content, missing=missing)
        if fingerprint(place) != content:
            raise UserError(f"{place} is not the {what} that the identifiers of {self.run.path} were made with")
        return place

    def _stage(self, name: str) -> dict[str, Any]:
        stage = self.run.manifest().get("stages", {}).get(name)
        if stage is None:
            again = data_command(name, "--run", self.run.path)
            raise UserError(f"{self.run.path} does not say how its {name} were made; make them with `{again}`")
        return stage


def _changed_prompt(run: RunFolder) -> list[Mismatch]:
    """Return that the prompt for captions has changed since the run's were written, if it has."""
    name = "caption.jinja"
    known = run.manifest()["stages"]["caption"]["inputs"].get(name)
    found = load_prompts().sha256[name]
    return [] if known in (None, found) else [
        Mismatch(str(run / "captions.jsonl"), "prompts", f"the prompt {name}", known, found)
    ]  # fmt: skip

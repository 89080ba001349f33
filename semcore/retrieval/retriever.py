"""Retriever of a trained run: from a query to verified, ranked hits.

from semcore import Retriever

retriever = Retriever.from_run("RUN")
hits = retriever.search(text="a red circle", top_k=10)
hits[0].item_id, hits[0].score, hits[0].confidence, hits[0].image_path
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

from PIL import Image

from semcore.data.directions import Direction
from semcore.models.inference import Dtype
from semcore.models.session import ModelSession
from semcore.models.verifier_registry import VerifierName
from semcore.retrieval.candidates import Search
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.explanation import PriorShare, Searched, explain, item_of
from semcore.retrieval.generator import Engine
from semcore.retrieval.hits import GeneratedHit, Hit
from semcore.retrieval.opened_run import OpenedRun
from semcore.retrieval.opening import open_run, with_verifier
from semcore.retrieval.prior_settings import PriorChoice, prior_settings_of
from semcore.retrieval.query_pictures import Picture, open_picture
from semcore.retrieval.search_notes import confidence_note, prior_note
from semcore.retrieval.shortlist import Shortlist, hits_of, make_shortlist
from semcore.retrieval.verifiers import verifier_scores
from semcore.runtime.errors import UserError
from semcore.verification import LETTERS


@dataclass
class Retriever(OpenedRun):
    """A searchable run, made by `Retriever.from_run`; its attributes are those of `OpenedRun`."""

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
        opened = open_run(
            run, data=data, split=split, verifier=verifier, num_beams=num_beams, num_candidates=num_candidates,
            dtype=dtype, device=device, engine=engine, base=base, allow_mismatch=allow_mismatch,
            prior_weight=prior_weight, plain=plain,
        )  # fmt: skip
        return cls(**vars(opened))

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
            changed = with_verifier(changed, verifier, allow_mismatch)
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

    def confidence_note(self, direction: Direction) -> str:
        """Return a note on a direction's confidence and "no match"; empty where they were fitted for such a search."""
        return confidence_note(
            self.run.path,
            self.fusion_settings.fusions.get(self.verifier, {}).get(direction),
            len(self._corpus(direction).items),
            fitted_prior=self._fitted_prior(direction),
            used_prior=self.prior_settings.weight(direction),
            lacks_scores=self._lacks_scores(direction),
        )

    def prior_note(self, direction: Direction) -> str:
        """Say why nothing of the identifiers' prior comes off, where that was not asked for; empty otherwise."""
        return prior_note(self.run.path, self.prior_settings, direction)

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
            num_shifts=self.fusion_settings.num_shifts.get(direction, 1),
        )

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
            num_shifts=self.fusion_settings.num_shifts.get(direction, 1),
        )

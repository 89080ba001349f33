"""The record of an evaluation on its search, for later ones: RUN/search.json with the guide and the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from semcore.data.run_folder import RunFolder
from semcore.retrieval.candidates import CandidateSettings
from semcore.retrieval.guides import GuideSettings
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.runtime.typed_commands import evaluate_anew
from semcore.verification import Fusion
from semcore.verification.score_fusion import fusion_as_data, fusion_of_data

SEARCH_FILE = "search.json"


@dataclass(frozen=True)
class SearchSettings:
    """How a run is searched, beside the identifiers' prior.

    Attributes:
        guide: what guides the search, with its weights.
        candidates: where candidates come from.
        fusions: direction -> the fusion that chooses among candidates of both sides before verification.
    """

    guide: GuideSettings = field(default_factory=GuideSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    fusions: Mapping[str, Fusion] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Return whether nothing guides the search and the generator alone finds candidates."""
        return self.guide.kind == "none" and self.candidates.source == "generated"


def search_settings_of(run: RunFolder, engine: str) -> SearchSettings:
    """Return how the evaluation of a run searched; plainly where there was none.

    Raises:
        UserError: the record is broken, or the engine cannot search as it says.
    """
    path = run / SEARCH_FILE
    settings = read_search_settings(path) if path.exists() else SearchSettings()
    if settings.guide.kind != "none" and engine != "semcore":
        raise UserError(f"{path} guides the beam search, which engine {engine} cannot: choose semcore")
    return settings


def write_search_settings(path: Path, settings: SearchSettings) -> None:
    """Write search.json; where the search was plain, there is none."""
    if settings.plain:
        path.unlink(missing_ok=True)
        return
    fusions = {direction: fusion_as_data(fusion) for direction, fusion in settings.fusions.items()}
    write_json(path, {"guide": asdict(settings.guide), "candidates": asdict(settings.candidates), "fusions": fusions})


def read_search_settings(path: Path) -> SearchSettings:
    """Read back what `write_search_settings` wrote.

    Raises:
        UserError: the file is broken.
    """
    content = read_json(path)
    try:
        fusions = {direction: fusion_of_data(own) for direction, own in content["fusions"].items()}
        return SearchSettings(GuideSettings(**content["guide"]), CandidateSettings(**content["candidates"]), fusions)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} does not say how to search; write it anew with `{evaluate_anew(path.parent)}`"
        ) from None

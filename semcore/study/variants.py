"""The paper's ablation family (Tables 3 and 5, Figure 3): what each variant changes in the full system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

FULL = "full"
WITHOUT_VERIFICATION = "without_verification"
STAGES = ("caption", "identifiers", "train_identifier", "evaluate")
Group = Literal["parts", "beams", "grid"]


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: of its folder, and in ablations.json.
        label: as the table calls it.
        groups: the tables it stands in: "parts" (Table 3), "beams" (Table 5), "grid" (Figure 3).
        identifiers: options of `data_prep.identifiers` that differ from the full system's.
        evaluate: likewise of `semcore evaluate`.
        paper: the paper's text to image R@1 and R@5 on Flickr30K, where its text has them.
    """

    name: str
    label: str
    groups: tuple[Group, ...]
    identifiers: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)
    paper: tuple[float, float] | None = None

    @property
    def shared(self) -> tuple[str, ...]:
        """Return the stages whose results it takes from the full system."""
        if self.name == FULL:
            return ()
        return STAGES[:1] if self.identifiers else STAGES[:3]

    @property
    def has_run(self) -> bool:
        """Tell whether it is a run of its own; the row without verification is read off the full system's."""
        return self.name != WITHOUT_VERIFICATION


PARTS = (
    Variant(FULL, "SemCORE", ("parts", "beams", "grid"), paper=(69.0, 83.0)),
    Variant(WITHOUT_VERIFICATION, "w/o verification", ("parts",), paper=(51.9, 77.9)),
    Variant("without_sid", "w/o SID", ("parts",), {"scheme": "numeric"}, paper=(66.1, 79.0)),
    Variant("without_global_id", "w/o global ID", ("parts",), {"global_id": False}, paper=(65.7, 78.2)),
    Variant("without_deduplication", "w/o deduplication", ("parts",), {"deduplicate": False}, paper=(68.1, 81.1)),
    Variant("without_constraint", "w/o constrained decoding", ("parts",), {}, {"constraint": False}, (48.3, 55.7)),
)
PAPER_BEAMS = {10: (64.4, 76.5), 20: (67.5, 80.9), 30: (68.3, 82.5), 40: (68.8, 82.8), 50: (69.0, 83.0)}


def family(
    *, num_beams: int, num_clusters: int, num_keywords: int, beams: Sequence[int], grid: Sequence[tuple[int, int]]
) -> list[Variant]:
    """Return the variants; the full system comes first.

    Args:
        num_beams: the full system's.
        num_clusters: likewise.
        num_keywords: likewise.
        beams: widths to measure beside it (paper, Table 5); each counts once.
        grid: (clusters, keywords) to measure beside it (paper, Figure 3); likewise.
    """
    widths = [
        Variant(f"beams{width}", f"{width} beams", ("beams",), {}, {"num_beams": width}, PAPER_BEAMS.get(width))
        for width in dict.fromkeys(beams)
        if width != num_beams
    ]
    points = [
        Variant(
            f"clusters{clusters}_keywords{keywords}",
            f"{clusters} clusters, {keywords} keywords",
            ("grid",),
            {"num_clusters": clusters, "num_keywords": keywords},
        )
        for clusters, keywords in dict.fromkeys(grid)
        if (clusters, keywords) != (num_clusters, num_keywords)
    ]
    return [*PARTS, *widths, *points]

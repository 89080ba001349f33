"""Collisions: items whose codes are the same, told apart or not.

Items are taken in the order train, val, test, each in the dataset's, so that a test item never changes the identifier
of a training item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from semcore.data.dataset import SPLITS
from semcore.identifiers.code_settings import Collisions

Codes = tuple[int, ...]
Numbered = tuple[Codes, int | None]
"""Codes, and the number of the token behind them that tells their items apart, if there is one."""


def tell_apart(
    codes: Sequence[Codes], splits: Sequence[str], rule: Collisions, others: Callable[[int], Iterable[Codes]]
) -> list[Numbered]:
    """Return each item's codes and number.

    Args:
        codes: of each item.
        splits: of each item.
        rule: "share" leaves them as they are, "count" adds how many items had them before (CART, section 3.2.3), "next"
            takes the nearest free last code, and a number from 1 on where none is free.
        others: the item's place -> its other possible codes, nearest first; read by "next" alone.
    """
    if rule == "share":
        return [(own, None) for own in codes]
    seen: Counter[Codes] = Counter()
    told: dict[int, Numbered] = {}
    for place in sorted(range(len(codes)), key=lambda place: SPLITS.index(splits[place])):
        own = codes[place]
        if rule == "next" and own in seen:
            own = next((free for free in others(place) if free not in seen), own)
        number = seen[own] if rule == "count" or own in seen else None
        seen[own] += 1
        told[place] = (own, number)
    return [told[place] for place in range(len(codes))]

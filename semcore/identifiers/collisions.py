"""Collisions: items whose codes are the same, told apart or not.

Items are taken in the order train, val, test, each in the dataset's, so that a test item never changes the identifier
of a training item. One that comes later gets the first of its possible codes that no item of the corpus has, which is
what it would have got as the last of them. Where all that there are tokens for are taken, it shares the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

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


def possible_codes(
    own: Codes, rule: Collisions, others: Callable[[], Iterable[Codes]], numbers: Iterable[int]
) -> Iterator[Numbered]:
    """Yield what a later item may get, in the order in which `tell_apart` gives it to items with the same codes.

    Args:
        own: its codes.
        rule: as in `tell_apart`.
        others: its other possible codes, nearest first.
        numbers: those that there are tokens for, ascending.
    """
    if rule != "count":
        yield own, None
    if rule == "share":
        return
    if rule == "next":
        yield from ((other, None) for other in others())
    yield from ((own, number) for number in numbers)


def first_free(
    possible: Sequence[Iterable[Numbered]], text_of: Callable[[Numbered], str], taken: Collection[str]
) -> list[Numbered]:
    """Return the first of each item's possible codes that is free, item by item; its first where none is.

    Args:
        possible: of each item, at least one.
        text_of: the identifier that codes are.
        taken: identifiers that other items have.
    """
    used, told = set(taken), []
    for own in possible:
        choices = iter(own)
        first = next(choices)
        chosen = first if text_of(first) not in used else next((o for o in choices if text_of(o) not in used), first)
        used.add(text_of(chosen))
        told.append(chosen)
    return told

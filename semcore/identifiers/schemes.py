"""Identifier schemes by name; a new one is a module and a line here."""

from __future__ import annotations

from semcore.identifiers.hierarchical import make_hierarchical
from semcore.identifiers.keyword_schemes import make_numeric, make_structured
from semcore.identifiers.later_hierarchical import later_hierarchical
from semcore.identifiers.later_quantised import later_coarse_fine, later_vokens
from semcore.identifiers.later_structured import later_structured
from semcore.identifiers.plain_schemes import later_caption, make_atomic, make_caption, make_string
from semcore.identifiers.quantised import make_coarse_fine, make_vokens
from semcore.identifiers.scheme import Scheme

_NUMBERS = "a number says nothing of a new item, so that nobody could search for it"
_TOKENS = "a token of an item's own says nothing until it is trained"

SCHEMES: dict[str, Scheme] = {
    "structured": Scheme(make_structured, later_structured),  # SemCORE, section 3.2
    "numeric": Scheme(make_numeric, _NUMBERS),  # SemCORE, Table 3, "w/o SID"; --global-id false: GRACE's numeric ones
    "vokens": Scheme(make_vokens, later_vokens),  # AVG; ComGTIR; with --modality-token GENIUS
    "coarse-fine": Scheme(make_coarse_fine, later_coarse_fine),  # CART
    "hierarchical": Scheme(make_hierarchical, later_hierarchical),  # GRACE, "structured"
    "string": Scheme(make_string, _NUMBERS),  # GRACE
    "caption": Scheme(make_caption, later_caption),  # GRACE, "semantic"
    "atomic": Scheme(make_atomic, _TOKENS),  # GRACE
}

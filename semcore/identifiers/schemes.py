"""Identifier schemes by name; a new one is a module and a line here."""

from __future__ import annotations

from semcore.identifiers.hierarchical import make_hierarchical
from semcore.identifiers.keyword_schemes import make_numeric, make_structured
from semcore.identifiers.plain_schemes import make_atomic, make_caption, make_string
from semcore.identifiers.quantised import make_coarse_fine, make_vokens
from semcore.identifiers.scheme import Scheme

SCHEMES: dict[str, Scheme] = {
    "structured": make_structured,  # SemCORE, section 3.2
    "numeric": make_numeric,  # SemCORE, Table 3, "w/o SID"; with --global-id false GRACE's numeric identifiers
    "vokens": make_vokens,  # AVG; ComGTIR; with --modality-token GENIUS
    "coarse-fine": make_coarse_fine,  # CART
    "hierarchical": make_hierarchical,  # GRACE, "structured"
    "string": make_string,  # GRACE
    "caption": make_caption,  # GRACE, "semantic"
    "atomic": make_atomic,  # GRACE
}

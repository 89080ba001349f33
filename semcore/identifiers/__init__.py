"""Structured natural-language identifiers: a cluster and some keywords per item (paper, section 3.2)."""

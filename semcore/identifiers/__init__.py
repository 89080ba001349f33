"""Structured natural-language identifiers: a cluster and a few keywords an item (paper, section 3.2)."""

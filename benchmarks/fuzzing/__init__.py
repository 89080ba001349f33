"""Hostile inputs: valid files that were damaged on purpose, and what reads them."""

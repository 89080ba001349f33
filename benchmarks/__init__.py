"""Benchmarks against a peer, side by side in one process; `results/` holds the figures with their commands."""

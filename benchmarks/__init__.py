"""Ours against a peer, side by side in one process; `results/` holds what was measured, with the command."""

"""Checkpoints: loading, adapters, quantisation, conversion, prompts, tokenisation, visual features."""

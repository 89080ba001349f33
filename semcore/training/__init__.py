"""Training library of the recipes: examples, packed rows, batches, the trainer, saved checkpoints."""

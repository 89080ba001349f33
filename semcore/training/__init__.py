"""What the training recipes call: examples, rows, batches, the trainer, and what is saved at the end."""

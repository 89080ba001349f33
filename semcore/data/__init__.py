"""Dataset and run folders, and the records in them."""

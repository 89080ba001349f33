"""The two folders, dataset and run, and the records in them."""

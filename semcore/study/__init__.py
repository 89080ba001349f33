"""A study: variants of one run, each measured on the same queries, and what the differences say."""

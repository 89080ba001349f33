"""Evaluation of rankings: scores, statistics and files.

`metrics` scores a run, `statistics` gives intervals and tests, `trec` and `per_query` read and write the files;
`pipeline` runs a whole evaluation.
"""

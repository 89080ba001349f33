"""Rankings and judgements in, scores and files out; knows no model, no dataset and no table.

`metrics` scores a run, `statistics` says how sure a score is, `trec` and `per_query` are the files.
"""

"""Studies: variants of one run, evaluated on the same queries, with paired differences."""

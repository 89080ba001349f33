"""Faults done to the stages of a run: kills, full and read-only disks, and what is left of the files then."""

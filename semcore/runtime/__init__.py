"""Machine layer: errors, atomic files and folders, resumable work, ranks, subprocesses, hardware facts."""

"""The runner, from a query to hits: one query, or a resumable batch."""

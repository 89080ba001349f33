"""Retrieval from queries to hits: one query, or a resumable batch."""

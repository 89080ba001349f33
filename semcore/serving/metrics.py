"""Prometheus metrics of a served run: requests, queries, batches, queue and refusals.

A label is a route's template, a status or a code, never what a client sends: their number is bounded.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from semcore.serving.batching import BatchRecord

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        self.requests = Counter("semcore_requests", "Requests answered", ["method", "route", "status"], **own)
        self.seconds = Histogram(
            "semcore_request_seconds", "Seconds from a request to its answer", ["method", "route"],
            buckets=SECONDS, **own,
        )  # fmt: skip
        self.in_flight = Gauge("semcore_requests_in_flight", "Requests that are not answered yet", **own)
        self.queries = Counter("semcore_queries", "Queries answered", ["direction"], **own)
        self.refusals = Counter("semcore_refusals", "Requests refused", ["code"], **own)
        self.gone = Counter("semcore_clients_gone", "Requests whose client went before the answer", **own)
        self.batch_size = Histogram("semcore_batch_queries", "Queries in one forward", buckets=SIZES, **own)
        self.batch_seconds = Histogram("semcore_batch_seconds", "Seconds of one batch's search", buckets=SECONDS, **own)
        self.wait_seconds = Histogram(
            "semcore_wait_seconds", "Seconds a query waited for its batch", buckets=SECONDS, **own
        )
        self.waiting = Gauge("semcore_queries_waiting", "Queries in the queue", **own)
        self.items = Gauge("semcore_items", "Items that can be found", ["direction"], **own)

    def observe_batch(self, record: BatchRecord) -> None:
        """Record a batch."""
        self.batch_size.observe(record.num_queries)
        self.batch_seconds.observe(record.work_s)
        for seconds in record.waited_s:
            self.wait_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

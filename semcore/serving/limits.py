"""Limits of a served run: sizes, times, queue and rate. Imports no torch."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from semcore.runtime.errors import UserError
from semcore.runtime.settings import option

MIB = 1 << 20
ROUNDING = 1e-9  # of a token
MOST_EXPLAINED = 10  # ours: hits of one request; an explanation takes about as long as a query
MOST_CLIENTS = 10_000  # ours: buckets that are remembered; the one used longest ago is forgotten


@dataclass(frozen=True)
class Limits:
    """What one request, and all that wait, may take."""

    max_batch: int = 16
    """Queries in one forward."""
    batch_wait_s: float = 0.005  # ours: a hundredth of a search of the scenes on a CPU
    """Seconds that a batch waits for more queries, where the one before it had several."""
    max_queue: int = 256
    """Queries that may wait."""
    max_queue_bytes: int = 256 * MIB
    """Bytes of the pictures that may wait."""
    max_body_bytes: int = 16 * MIB
    """Bytes of one request."""
    max_queries: int = 64
    """Queries, images to add, or items to remove, in one request."""
    max_letters: int = 2_000
    """Letters of one sentence."""
    max_pixels: int = 40_000_000  # ours: phones take 12 to 50 million; 120 MB of memory once decoded
    """Pixels of one picture, by its header."""
    max_top_k: int = 100
    """Hits of one query."""
    timeout_s: float = 60.0
    """Seconds until a request has come in, and again until it is answered, waiting included."""
    rate: float = 0.0
    """Queries a second of one client; 0 for no limit."""
    burst: int = 64
    """Queries that a client may send at once after a pause."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("batch_wait_s", "rate") else 1
            if value < least:
                raise UserError(f"{option(f'limits.{name}')} must be {least} or more, found {value}")
        if self.max_queries > self.max_queue:
            raise UserError(
                f"--limits.max-queries must be at most --limits.max-queue, {self.max_queue}, found {self.max_queries}"
            )


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


@dataclass
class RateLimiter:
    """A token bucket for every client.

    A request passes while its client's bucket is not empty, and may leave a debt: so a request of more queries than a
    bucket holds is possible, and is paid for afterwards.

    Attributes:
        rate: tokens a second, 0 for no limit.
        burst: tokens that a bucket holds.
        clock: seconds that only grow.
    """

    rate: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict, repr=False)

    def wait_s(self, client: str, cost: int = 1) -> float:
        """Take a request's tokens and return 0, or take none and return the seconds until it would pass."""
        if self.rate <= 0:
            return 0.0
        bucket = self._bucket(client)
        if bucket.tokens < 1 - ROUNDING:
            return (1 - bucket.tokens) / self.rate
        bucket.tokens -= cost
        return 0.0

    def charge(self, client: str, cost: int) -> None:
        """Take further tokens for a request that has passed, as soon as it is known how many queries it has."""
        if self.rate > 0:
            self._bucket(client).tokens -= cost

    def _bucket(self, client: str) -> _Bucket:
        now = self.clock()
        bucket = self._buckets.pop(client, None) or _Bucket(float(self.burst), now)
        bucket.tokens = min(float(self.burst), bucket.tokens + (now - bucket.filled_at) * self.rate)
        bucket.filled_at = now
        self._buckets[client] = bucket
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return bucket


def whole_seconds(seconds: float) -> int:
    """Return seconds for a Retry-After header: whole ones, at least one."""
    return max(1, math.ceil(seconds))

"""Service: backend, limits, token and metrics, which the routes of one application share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from semcore.serving.backend import Backend
from semcore.serving.limits import Limits, RateLimiter
from semcore.serving.metrics import Metrics


@dataclass
class Service:
    """What the routes share.

    Attributes:
        name: of the run's folder.
        open_backend: makes the backend, told where batches are recorded, when the server starts.
        limits: of requests.
        token: what a request has to bring, None for nothing.
        read_only: why items are neither added nor removed; empty where they are.
    """

    name: str
    open_backend: Callable[[Metrics], Backend]
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    read_only: str = ""
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.rate = RateLimiter(self.limits.rate, self.limits.burst)
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        """Return the backend; there is one once the server has started."""
        if self._backend is None:
            self._backend = self.open_backend(self.metrics)
        return self._backend

    async def close(self) -> None:
        """Answer what waits, and end."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.close()

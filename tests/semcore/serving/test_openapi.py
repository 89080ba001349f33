"""The API against its own document: Schemathesis makes requests, right and wrong ones, and checks the answers."""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="Schemathesis is not installed (extra dev)")

from fastapi import FastAPI  # noqa: E402
from hypothesis import HealthCheck, settings, strategies  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from semcore.serving.app import create_app  # noqa: E402
from semcore.serving.limits import Limits  # noqa: E402
from tests.semcore.serving.live_servers import FakeRun, picture_base64, service_of  # noqa: E402


def new_app() -> FastAPI:
    return create_app(service_of(FakeRun(), Limits(max_letters=200)))


# No document can say which bytes are a picture, so the requests that are right have some of these.
PICTURES = [picture_base64((8, 8), colour) for colour in ("red", "blue")]
schemathesis.openapi.format("byte", strategies.sampled_from(PICTURES))
schema = schemathesis.openapi.from_asgi("/openapi.json", new_app())


@schema.parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_route_does_what_the_document_says(case) -> None:
    # Each call starts a server and ends it. What no document can say, as that ids are given once, may be refused.
    case.call_and_validate(app=new_app(), excluded_checks=[positive_data_acceptance])

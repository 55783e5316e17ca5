"""Errors as responses: the status is the class's own, and its text reaches the caller."""

import httpx
import pytest

from gateway.api.openfaas.build import SignatureError
from gateway.api.openfaas.logs import LogRequestError
from gateway.api.requests import BodyTooLargeError
from gateway.types import errors
from gateway.types.errors import SluiceError
from tests.gateway.api.recording import RecordingProvider

STATUSES = {
    errors.InvalidRequestError: 400,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.AlreadyExistsError: 409,
    errors.OverloadedError: 429,
    errors.NotSupportedError: 501,
    errors.UpstreamError: 502,
    errors.UnavailableError: 503,
    errors.DeadlineExceededError: 504,
    errors.DiskFullError: 507,
    errors.SluiceError: 500,
    BodyTooLargeError: 413,
    SignatureError: 401,
}


class UnlistedError(errors.NotFoundError):
    """A class that says nothing of its status."""


@pytest.mark.parametrize(
    ("kind", "status"),
    [*STATUSES.items(), (UnlistedError, 404)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_error_is_answered_with_the_status_of_its_class(
    api: httpx.AsyncClient, provider: RecordingProvider, kind: type[SluiceError], status: int
) -> None:
    provider.broken = kind("what was wrong")
    response = await api.get("/system/functions")
    assert (response.status_code, response.text) == (status, "what was wrong")


def test_every_error_of_the_gateway_s_types_has_a_row_here() -> None:
    declared = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, SluiceError)
    }
    assert declared <= STATUSES.keys()
    assert LogRequestError.status == 422

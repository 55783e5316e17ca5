import logging
import re

import httpx
import pytest
from fastapi import FastAPI

from service.errors import ServiceError, install_errors


class BusyError(ServiceError):
    status = 503


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()
    install_errors(app)

    async def busy() -> None:
        raise BusyError("later", waiting=3)

    async def broken() -> None:
        raise ZeroDivisionError("a secret")

    async def counted(count: int) -> int:
        return count

    for route in (busy, broken, counted):
        app.add_api_route(f"/{route.__name__}", route)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service")


async def test_known_error_is_its_status_text_and_details(client: httpx.AsyncClient) -> None:
    response = await client.get("/busy")
    assert (response.status_code, response.json()) == (503, {"error": "later", "waiting": 3})
    assert response.headers["retry-after"] == "5"


async def test_unexpected_error_keeps_its_text_in_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        response = await client.get("/broken")
    assert response.status_code == 500
    found = re.fullmatch(
        r"the service failed, its log has incident (\w+)", response.json()["error"]
    )
    assert found is not None
    assert f"incident={found[1]}" in caplog.text
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/counted?count=x", 400, "query.count: expected a valid integer, got 'x'"),
        ("/counted", 400, "query.count: expected a value, got None"),
        ("/nowhere", 404, "not found"),
    ],
)
async def test_bad_request_is_told_what_was_wrong(
    client: httpx.AsyncClient, path: str, status: int, text: str
) -> None:
    response = await client.get(path)
    assert response.status_code == status
    assert text in response.json()["error"]

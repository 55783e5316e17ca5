import errno
import sqlite3
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.api.application import application
from gateway.api.control import ControlPlane
from gateway.api.guard import cleaned
from gateway.auth.authenticator import Auth, FailureLimit
from gateway.providers import Pruned
from gateway.types.errors import UnavailableError
from tests.gateway.api.conftest import CREDENTIALS, PASSWORD
from tests.gateway.api.recording import RecordingProvider

# Every method and path of contract section 1.2 that needs the password.
GUARDED = [
    ("GET", "/system/info"),
    ("GET", "/system/telemetry"),
    ("GET", "/system/functions"),
    ("POST", "/system/functions"),
    ("PUT", "/system/functions"),
    ("DELETE", "/system/functions"),
    ("GET", "/system/function/echo"),
    ("POST", "/system/scale-function/echo"),
    ("GET", "/system/secrets"),
    ("POST", "/system/secrets"),
    ("PUT", "/system/secrets"),
    ("DELETE", "/system/secrets"),
    ("GET", "/system/logs"),
    ("GET", "/system/namespaces"),
    ("POST", "/system/namespace/"),
    ("GET", "/system/namespace/x"),
    ("PUT", "/system/namespace/x"),
    ("DELETE", "/system/namespace/x"),
    ("POST", "/system/alert"),
    ("POST", "/system/prune"),
    ("GET", "/ui/"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_guard_asks_for_the_password(
    api: httpx.AsyncClient, provider: RecordingProvider, method: str, path: str
) -> None:
    response = await api.request(method, path, auth=("admin", "wrong"))
    assert (response.status_code, response.text) == (401, "invalid credentials")
    assert response.headers["www-authenticate"] == 'Basic realm="Restricted"'
    assert provider.changes == 0


@pytest.mark.parametrize("path", ["/%73ystem/info", "/system%2Finfo", "/system/info?x=//"])
async def test_guard_is_not_passed_by_another_spelling(api: httpx.AsyncClient, path: str) -> None:
    assert (await api.get(path, auth=("admin", "wrong"))).status_code == 401


async def test_guard_refuses_a_functions_token_outside_the_registry(
    api: httpx.AsyncClient,
) -> None:
    headers = {"authorization": "Bearer registry-token-value"}
    api.auth = httpx.Auth()
    response = await api.get("/system/functions", headers=headers)
    assert response.status_code == 403


async def test_guard_slows_down_guessing(control: ControlPlane) -> None:
    # At one moment: what was counted is forgotten by the second.
    auth = Auth(CREDENTIALS, failures=FailureLimit(clock=lambda: 0.0))
    transport = httpx.ASGITransport(
        app=application(replace(control, auth=auth), CollectorRegistry())
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        wrong = [await client.get("/system/info", auth=("admin", "x")) for _ in range(32)]
        assert [response.status_code for response in wrong] == [401] * 30 + [429] * 2
        assert (await client.get("/system/info", auth=PASSWORD)).status_code == 200


async def test_guard_with_auth_off_ignores_an_empty_bearer(control: ControlPlane) -> None:
    app = application(replace(control, auth=Auth(CREDENTIALS, enabled=False)), CollectorRegistry())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await client.get("/system/functions", headers={"authorization": "Bearer "})
    assert response.status_code == 200


async def test_guard_refuses_a_form_of_another_web_site(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    body = {"service": "echo", "image": "i"}
    for origin, status in (("http://evil.example", 403), ("null", 403), ("http://gateway", 202)):
        headers = {"origin": origin}
        response = await api.post("/system/functions", json=body, headers=headers)
        assert response.status_code == status
    assert provider.changes == 1


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//system//functions?namespace=a", "/system/functions?namespace=a"),
        ("///evil.example/%0d%0ax", "/evil.example/%0D%0Ax"),
    ],
)
async def test_path_is_cleaned_by_a_redirect(
    api: httpx.AsyncClient, path: str, location: str
) -> None:
    response = await api.get(httpx.URL("http://gateway", raw_path=path.encode()))
    assert (response.status_code, response.headers["location"]) == (301, location)


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/.hidden", "/.hidden"),
        ("/a/..", "/"),
        ("/system/../healthz", "/healthz"),
        ("/x/./y/", "/x/y/"),
        ("/../../x", "/x"),
    ],
)
def test_cleaned_changes_only_what_is_not_clean(path: str, clean: str) -> None:
    assert cleaned(path) == clean


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/metrics",
        "/readyz",
        "/docs",
        "/openapi.json",
        "/system/telemetry",
        "/system/functions/",
        "/system/namespaces/team",
        "/system/function/a/b",
    ],
)
async def test_unknown_path_is_not_found_in_text(api: httpx.AsyncClient, path: str) -> None:
    response = await api.get(path)
    assert (response.status_code, response.text) == (404, "404 page not found\n")
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/system/functions"),
        ("POST", "/system/info"),
        ("POST", "/healthz"),
        ("GET", "/system/alert"),
        ("PATCH", "/system/namespace/x"),
        ("DELETE", "/system/function/echo"),
    ],
)
async def test_known_path_with_wrong_method_is_an_empty_405(
    api: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await api.request(method, path)
    assert (response.status_code, response.content) == (405, b"")


async def test_info_has_what_faas_cli_dereferences(api: httpx.AsyncClient) -> None:
    info: dict[str, Any] = (await api.get("/system/info")).json()
    assert info["provider"] == {
        "provider": "sluice-fake",
        "orchestration": "fake",
        "version": {"sha": "abc", "release": "1.2.3"},
    }
    assert info["version"] == {"commit_message": "Sluice", "sha": "abc", "release": "1.2.3"}
    assert info["arch"]
    assert info["isolation"] == "none: a test"


async def test_healthz_needs_no_password_and_tells_a_broken_provider(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    api.auth = httpx.Auth()
    response = await api.get("/healthz")
    assert (response.status_code, response.text) == (200, "OK")
    provider.broken = UnavailableError("disk is gone")
    response = await api.get("/healthz")
    assert (response.status_code, response.text) == (502, "provider: disk is gone")


async def test_home_leads_to_the_pages(api: httpx.AsyncClient) -> None:
    response = await api.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/ui/")


async def test_prune_tells_what_was_removed_or_that_there_is_nothing_to_prune(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    response = await api.post("/system/prune")
    assert (response.status_code, response.text.startswith("this provider keeps nothing")) == (
        501,
        True,
    )
    provider.pruned = Pruned({"bundles": ("a",)}, 1)
    assert (await api.post("/system/prune")).json() == {"bundles": ["a"], "freedBytes": 1}


async def test_page_lists_functions_and_shows_names_as_text(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    assert "None is deployed." in (await api.get("/ui/")).text
    body = {"service": "echo", "image": "<script>1</script>"}
    await api.post("/system/functions", json=body)
    response = await api.get("/ui/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "echo.openfaas-fn" in response.text
    assert "&lt;script&gt;" in response.text
    assert "<script>" not in response.text


async def test_answers_are_counted_by_route_and_not_by_name(
    api: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    for path in ("/system/function/a", "/system/function/b", "/system/nothing", "/healthz"):
        await api.get(path)
    await api.get("/system/info", auth=("x", "y"))

    def count(code: str, path: str) -> float | None:
        labels = {"code": code, "method": "get", "path": path}
        return registry.get_sample_value("provider_http_requests_total", labels)

    assert count("404", "/system/function/{name}") == 2.0
    assert count("404", "unmatched") == 1.0
    assert count("401", "unmatched") == 1.0
    text = generate_latest(registry).decode()
    assert "healthz" not in text
    assert "provider_http_request_duration_seconds_count" in text


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (OSError(errno.ENOSPC, "no", "/secret/path"), 507, "disk is full: nothing was changed"),
        (OSError(errno.EROFS, "no", "/secret/path"), 500, "cannot be used: Read-only file system"),
        (sqlite3.OperationalError("disk I/O error"), 500, "data folder cannot be used: storage"),
    ],
)
async def test_disk_that_refuses_is_named_and_its_path_is_not_told(
    api: httpx.AsyncClient, provider: RecordingProvider, error: Exception, status: int, text: str
) -> None:
    provider.broken = error
    response = await api.get("/system/functions")
    assert response.status_code == status
    assert text in response.text
    assert "secret" not in response.text


async def test_full_database_is_507(api: httpx.AsyncClient, provider: RecordingProvider) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as full:
        database.execute("CREATE TABLE a (b)")
    database.close()
    provider.broken = full.value
    response = await api.get("/system/functions")
    assert (response.status_code, response.text) == (
        507,
        "the gateway's disk is full: nothing was changed\n",
    )

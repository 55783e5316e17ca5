import base64
from typing import Any

import httpx
import pytest

from tests.gateway.api.recording import RecordingProvider

PATH = "/system/secrets"


async def test_secrets_list_shows_sorted_names_and_never_values(api: httpx.AsyncClient) -> None:
    assert (await api.get(f"{PATH}?namespace=")).json() == []
    for name in ("b-key", "a.key"):
        response = await api.post(PATH, json={"name": name, "value": "hidden-value"})
        assert response.status_code == 202
    response = await api.get(PATH)
    assert response.json() == [
        {"name": "a.key", "namespace": "openfaas-fn"},
        {"name": "b-key", "namespace": "openfaas-fn"},
    ]
    assert "hidden-value" not in response.text


@pytest.mark.parametrize(
    ("keys", "content"),
    [
        ({"value": " text\n"}, b" text\n"),
        ({"rawValue": base64.b64encode(b"\0\xff").decode()}, b"\0\xff"),
        ({"value": "lost", "rawValue": base64.b64encode(b"wins").decode()}, b"wins"),
        ({"value": "kept", "rawValue": ""}, b"kept"),
    ],
)
async def test_secret_value_is_kept_byte_for_byte(
    api: httpx.AsyncClient, provider: RecordingProvider, keys: dict[str, str], content: bytes
) -> None:
    assert (await api.post(PATH, json={"name": "key", **keys})).status_code == 202
    assert provider.known_secrets == {"openfaas-fn": {"key": content}}


async def test_secret_create_existing_is_a_conflict_and_keeps_the_value(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await api.post(PATH, json={"name": "key", "value": "one"})
    response = await api.post(PATH, json={"name": "key", "value": "two"})
    assert (response.status_code, response.text) == (409, "secret key.openfaas-fn exists already")
    assert provider.known_secrets["openfaas-fn"]["key"] == b"one"


async def test_secret_update_replaces_and_needs_one_to_be_there(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    assert (await api.put(PATH, json={"name": "key", "value": "x"})).status_code == 404
    await api.post(PATH, json={"name": "key", "value": "one"})
    assert (await api.put(PATH, json={"name": "key", "value": "two"})).status_code == 202
    assert provider.known_secrets["openfaas-fn"]["key"] == b"two"


async def test_secret_delete_is_202_and_404_when_missing(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await api.post(PATH, json={"name": "key", "value": "one"})
    gone = {"name": "key", "namespace": "openfaas-fn"}
    assert (await api.request("DELETE", PATH, json=gone)).status_code == 202
    assert (await api.request("DELETE", PATH, json=gone)).status_code == 404
    assert provider.known_secrets == {"openfaas-fn": {}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"value": "hush"}, "name: expected a value, got nothing"),
        ({"name": "../key", "value": "hush"}, "name: expected lower-case letters"),
        ({"name": "a..b", "value": "hush"}, "name: expected lower-case letters"),
        ({"name": "key"}, "value: expected a value or a rawValue, got neither"),
        ({"name": "key", "value": 12345}, "value: expected a string, got a number"),
        ({"name": "key", "rawValue": "hush!"}, "rawValue: expected base64, got other text"),
        ({"name": "key", "value": ["hush"]}, "value: expected a string, got an array"),
        ({"name": "key", "value": "hush", "namespace": "no"}, "expected one that exists"),
        ({"name": "key", "value": "hush", "namespace": "/"}, "namespace: expected lower-case"),
    ],
)
async def test_secret_bad_input_is_named_without_the_value(
    api: httpx.AsyncClient, provider: RecordingProvider, body: dict[str, Any], text: str
) -> None:
    response = await api.post(PATH, json=body)
    assert (response.status_code, provider.changes) == (400, 0)
    assert text in response.text
    assert "hush" not in response.text
    assert "12345" not in response.text

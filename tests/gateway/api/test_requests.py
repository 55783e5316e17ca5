"""How errors name what was wrong in a document, and what they keep to themselves."""

import httpx
import pytest

from tests.gateway.api.recording import RecordingProvider


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"envVars": {"a=b": "1"}}, "envVars key: expected a variable name, neither empty nor"),
        ({"labels": {"": "1"}}, "labels key: expected a key of 1 to 317 characters, got ''"),
        ({"labels": {"k" * 400: "1"}}, "labels key: expected a key of 1 to 317 characters, got 'k"),
        ({"labels": {"a": 1}}, "labels.a: expected a string, got 1"),
        ({"limits": {"memory": 5}}, "limits.memory: expected a string, got 5"),
        ({"secrets": ["a", None]}, "secrets.1: expected a string, got null"),
    ],
)
async def test_field_is_named_as_the_document_has_it(
    api: httpx.AsyncClient, provider: RecordingProvider, fields: dict[str, object], text: str
) -> None:
    document = {"service": "one", "image": "i", **fields}
    response = await api.post("/system/functions", json=document)
    assert response.status_code == 400
    assert response.text.startswith(text)
    assert provider.changes == 0


async def test_value_of_a_variable_is_not_told(api: httpx.AsyncClient) -> None:
    document = {"service": "one", "image": "i", "envVars": {"TOKEN": "s3cret\0"}}
    response = await api.post("/system/functions", json=document)
    assert response.status_code == 400
    assert response.text == "envVars.TOKEN: expected text without a NUL character, got a string"

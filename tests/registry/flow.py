"""Steps that many tests take: put an artifact, a dataset, a model version."""

import hashlib
from typing import Any

import httpx

IRIS = b"length,width,kind\n5.1,3.5,setosa\n4.9,3.0,setosa\n6.3,,virginica\n"


async def put_artifact(client: httpx.AsyncClient, content: bytes = b"onnx") -> str:
    response = await client.post("/artifacts", content=content)
    assert response.status_code == 201, response.text
    digest: str = response.json()["sha256"]
    assert digest == hashlib.sha256(content).hexdigest()
    return digest


async def put_dataset(
    client: httpx.AsyncClient, name: str = "iris", content: bytes = IRIS
) -> dict[str, Any]:
    response = await client.post(
        f"/datasets/{name}", content=content, headers={"Content-Type": "text/csv"}
    )
    assert response.status_code == 201, response.text
    version: dict[str, Any] = response.json()
    return version


async def put_model(client: httpx.AsyncClient, name: str = "iris", versions: int = 1) -> None:
    digest = await put_artifact(client)
    for _ in range(versions):
        response = await client.post(f"/models/{name}/versions", json={"artifact": digest})
        assert response.status_code == 201, response.text

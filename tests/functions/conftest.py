import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.functions.contexts import context_of, load_function
from tests.functions.gateway import TOKEN, Event, Gateway

Predict = Callable[..., ModuleType]


@dataclass(frozen=True)
class Place:
    """A gateway with a registry, the functions that train, and the variables they ran with."""

    gateway: Gateway
    contexts: Path
    environ: dict[str, str]
    preprocess: ModuleType
    train: ModuleType
    evaluate: ModuleType

    def call(self, function: ModuleType, body: object, **event: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a call."""
        reply = function.handle(Event(json.dumps(body).encode(), **event), None)
        return reply["statusCode"], json.loads(reply["body"])

    def ok(self, function: ModuleType, body: object, **event: Any) -> dict[str, Any]:
        """The JSON of a call that succeeds."""
        status, answer = self.call(function, body, **event)
        assert status == 200, answer
        return answer


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contexts")
    for name in ("preprocess", "train", "evaluate", "predict", "echo"):
        context_of(name, folder)
    return folder


@pytest.fixture(scope="session")
def place(contexts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "registry-token").write_text(TOKEN + "\n", encoding="utf-8")
    gateway = Gateway(tmp_path_factory.mktemp("data"))
    gateway.start()
    environ = {"SLUICE_GATEWAY_URL": gateway.url, "SLUICE_SECRETS_DIR": str(secrets)}
    functions = {
        name: load_function(contexts / name, environ, f"function_{name}")
        for name in ("preprocess", "train", "evaluate")
    }
    gateway.functions.update(functions)
    yield Place(gateway, contexts, environ, **functions)
    gateway.stop()

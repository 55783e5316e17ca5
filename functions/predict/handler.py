"""Predictions of any registered model, by onnxruntime alone: scikit-learn is never imported here.

POST {"instances": [[...] | {column: value}, ...]}, `?model=NAME[@ALIAS|:VERSION]`, default:
variable default_model. Returns {"predictions": [rows], "probabilities": [rows, classes] of a
classifier, "model", "version"}. GET returns what the model takes. X: float32 [rows, columns].
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sluice import Context, Event
from sluice.ml.errors import CallError, MethodError, NotFoundError, TooLargeError
from sluice.ml.fields import shown
from sluice.ml.registry import Registry, Seen
from sluice.ml.responses import Reply, error_reply, json_reply
from sluice.ml.runtime_config import RuntimeConfig, runtime_config, text, whole_number

from .cache import Cache
from .models import Models
from .reference import Reference, read_reference
from .served import Served

_LOG: Final = logging.getLogger("predict")
_JSON: Final = {"Content-Type": "application/json"}
# About 100 rows of 30 numbers, 1 ms: more would delay the other calls of the event loop.
INLINE_BYTES: Final = 32 * 1024
PROTOCOL: Final = 'send {"instances": [rows]} to /, the model in ?model='
MAX_BYTES: Final = whole_number("max_body_bytes", 16 * 1024 * 1024)


class RegistrySource:
    """The registry: a short timeout where a call waits, retries where a file is fetched."""

    def __init__(self, where: RuntimeConfig) -> None:
        self._for_calls = Registry(where, timeout=2.0, attempts=1)
        self._for_files = Registry(where)

    def alias(self, name: str, alias: str, etag: str = "") -> Seen:
        return self._for_calls.alias(name, alias, etag)

    def model_version(self, name: str, version: str) -> dict[str, Any]:
        return self._for_calls.model_version(name, version)

    def artifact(self, sha256: str) -> bytes:
        return self._for_files.artifact(sha256)

    def close(self) -> None:
        """Close idle connections."""
        self._for_calls.close()
        self._for_files.close()


RUNTIME_CONFIG: Final = runtime_config()
DEFAULT: Final = read_reference(text("default_model", "breast-cancer@champion"))
SOURCE: Final = RegistrySource(RUNTIME_CONFIG)
MODELS: Final = Models(
    SOURCE,
    Cache(RUNTIME_CONFIG.cache, whole_number("cache_bytes", 512 * 1024 * 1024)),
    limit=whole_number("max_models", 8),
    max_rows=whole_number("max_rows", 10_000),
)
_LARGE: Final = ThreadPoolExecutor(1, "large")


def init() -> None:
    """Load the default model if it is cached or can be fetched; a start goes on without it."""
    try:
        MODELS.warm(DEFAULT)
    except CallError as error:
        _LOG.info("model=%s not ready: %s", DEFAULT, error)


async def handle(event: Event, context: Context) -> Reply:
    """200; 400 naming row and column; 404 for an unknown model; 413; 503 where the registry is
    unavailable and nothing is cached.
    """
    try:
        if event.path != "/":
            raise NotFoundError(f"expected path /, got {shown(event.path)}: {PROTOCOL}")
        named = event.query.get("model")
        reference = DEFAULT if named is None else read_reference(named)
        served = MODELS.current(reference)
        if served is None:
            served = await MODELS.look_up(reference)
        if event.method != "POST":
            return _described(event, served)
        body = event.body
        if len(body) <= INLINE_BYTES:
            content = served.response(body)
        elif len(body) <= MAX_BYTES:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(_LARGE, served.response, body)
        else:
            raise TooLargeError(f"expected a body of at most {MAX_BYTES} bytes, got {len(body)}")
    except CallError as error:
        return error_reply(error)
    return {"statusCode": 200, "headers": _JSON, "body": content}


def handle_many(calls: Sequence[tuple[Event, Context]]) -> list[Reply | None]:
    """What `handle` returns, for calls that arrived together: one run of a model for all its rows.

    None for what needs more than that: another method, a model to look up, a large or wrong body.
    """
    replies: list[Reply | None] = [None] * len(calls)
    together: dict[Served, list[int]] = {}
    for number, (event, _context) in enumerate(calls):
        named = event.query.get("model")
        plain = event.method == "POST" and event.path == "/"
        if plain and len(event.body) <= INLINE_BYTES:
            served = _current(DEFAULT if named is None else named)
            if served is not None:
                together.setdefault(served, []).append(number)
    for served, numbers in together.items():
        contents = served.responses([calls[number][0].body for number in numbers])
        for number, content in zip(numbers, contents, strict=True):
            if content is not None:
                replies[number] = {"statusCode": 200, "headers": _JSON, "body": content}
    return replies


def _current(wanted: Reference | str) -> Served | None:
    """The model if it is loaded and trusted; None otherwise, and for a name that is refused."""
    try:
        reference = read_reference(wanted) if isinstance(wanted, str) else wanted
    except CallError:
        return None
    return MODELS.current(reference)


def _described(event: Event, served: Served) -> Reply:
    if event.method not in {"GET", "HEAD"}:
        raise MethodError(f"expected POST or GET, got {event.method}")
    keys = ("signature", "metrics", "dataset", "dataset_version", "feature_set")
    described = {key: served.body.get(key) for key in keys}
    return json_reply(200, {"model": served.model, "version": served.version, **described})

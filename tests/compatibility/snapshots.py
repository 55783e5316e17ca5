"""What callers, operators and data folders rely on, as sorted lines of text in snapshots/.

    python -m tests.compatibility.snapshots [NAME ...]

writes them anew. Do so only for a change that is meant, and say in the commit why it is one.
"""

import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from tests.compatibility import product
from tests.compatibility.literals import literals
from tests.compatibility.storage import databases, files, one_line

T = TypeVar("T")

FOLDER: Final = Path(__file__).with_name("snapshots")
# What a setting's parser makes of each tells durations, sizes, numbers, flags and words apart.
SAMPLES: Final = ("2", "2s", "2Ki", "0", "-1", "0.5", "true", "word", "1.2.3.4/8")
# The interpreter's own series and those of functions under test are not ours.
OWN: Final = ("sluice_", "provider_")
# Words for readers: free to change.
PROSE: Final = frozenset({"description", "title"})


def settings() -> Iterator[str]:
    """Package, variable, default, its value, and what the parser makes of the samples."""
    for package, tables in product.SETTINGS.items():
        for table in tables:
            yield from (f"{package} {line}" for line in _knobs(table))


def _knobs(table: type[Any]) -> Iterator[str]:
    for knob in fields(table):
        if "variable" in knob.metadata:
            parse, default = knob.metadata["parse"], knob.metadata["default"]
            read = " ".join(f"{sample}={_parsed(parse, sample)}" for sample in SAMPLES)
            value = _parsed(parse, default)
            yield f"{knob.metadata['variable']} default={default!r} value={value} reads {read}"


def _parsed(parse: Callable[[str], object], text: str) -> str:
    try:
        return plain(parse(text))
    except ValueError:
        return "refused"


def plain(value: object) -> str:
    """A value as text that is the same in every process."""
    if isinstance(value, set | frozenset):
        return json.dumps(sorted(value))
    if isinstance(value, Path):
        return repr(str(value).replace(str(Path.cwd()), "FOLDER"))
    return repr(value)


def annotations() -> Iterator[str]:
    """Labels and annotations with what holds where they are absent."""
    for kind, key, default in product.annotations_of_scaling():
        yield f"scaling {kind} {key} default={default!r}"
    for key, value in product.annotations_of_retries().items():
        yield f"queue annotation {key} value={plain(value)}"
    for key, value in product.annotations_of_cron().items():
        yield f"cron annotation {key} value={plain(value)}"
    yield from (f"kafka annotation {line}" for line in _knobs(product.KAFKA_OPTIONS))


def metrics() -> Iterator[str]:
    """Program, name, type, labels and buckets of every series of ours."""
    with tempfile.TemporaryDirectory() as folder:
        declared = _reachable(_made_gateway(Path(folder)), CollectorRegistry)[0]
    for name, kind, labels in product.GATEWAY_ROWS:
        yield f"gateway {name} {kind} labels={','.join(labels)}"
    for program, registry in {"gateway": declared, **product.registries()}.items():
        yield from (f"{program} {line}" for line in _declared(registry))
    for family in product.replica_families():
        if family.name.startswith(("http_", "sluice_runtime_")):
            yield from _sampled(family.name, family.type, family.samples)


def _declared(registry: CollectorRegistry) -> Iterator[str]:
    for collector in set(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase) and collector._name.startswith(OWN):
            bounds = getattr(collector, "_kwargs", {}).get("buckets", ())
            buckets = f" buckets={','.join(map(str, bounds))}" if bounds else ""
            labels = ",".join(collector._labelnames)
            yield f"{collector._name} {collector._type} labels={labels}{buckets}"


def _sampled(name: str, kind: str, samples: Iterable[Any]) -> Iterator[str]:
    for sample in samples:
        labels = ",".join(key for key in sample.labels if key != "le")
        bound = f" le={sample.labels['le']}" if "le" in sample.labels else ""
        yield f"runtime {name} {kind} {sample.name} labels={labels}{bound}"


def routes() -> Iterator[str]:
    """Program, method and path of every route."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        apps: list[tuple[str, Starlette]] = [
            ("registry", product.registry(folder)),
            ("triggers", product.triggers(folder)),
        ]
        found = _reachable(_made_gateway(folder), Starlette)
        apps += [("gateway", app) for app in found]
        for program, app in apps:
            yield from (f"{program} {line}" for line in _paths(app.routes))


def _paths(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[str]:
    for route in routes:
        included: Any = route
        if hasattr(route, "original_router"):  # how FastAPI keeps a router that was included
            inner = prefix + included.include_context.prefix
            yield from _paths(included.original_router.routes, inner)
        elif isinstance(route, Route):
            yield from (f"{method} {prefix}{route.path}" for method in route.methods or ())
        else:
            raise TypeError(f"{route}: a kind of route that the snapshot does not show")


def _made_gateway(folder: Path) -> object:
    async def make() -> object:
        return product.gateway(folder)

    return asyncio.run(make())


def _reachable(root: object, kind: type[T]) -> list[T]:
    """Objects of a kind that `root` holds, the nearest first; their holders keep them private."""
    seen, ring, found = {id(root)}, [root], list[T]()
    for _ in range(12):
        following = [each for each in gc.get_referents(*ring) if _is_followed(each)]
        ring = list({id(each): each for each in following if id(each) not in seen}.values())
        seen |= {id(each) for each in ring}
        found += [each for each in ring if isinstance(each, kind)]
    return found


def _is_followed(value: object) -> bool:
    """Whether a value can belong to one object: classes, modules and their globals do not."""
    if isinstance(value, dict):
        return "__spec__" not in value
    return not isinstance(value, type | ModuleType)


def requests() -> Iterator[str]:
    """Request, place and rule of every field that a JSON body or a query may have."""
    for request, model in product.REQUESTS.items():
        schema = model.model_json_schema()
        parts = schema.pop("$defs", {})
        yield from (f"{request} {line}" for line in _flat("$", _resolved(schema, parts)))


def _resolved(node: Any, parts: Mapping[str, Any]) -> Any:
    """A JSON schema without prose and with its parts in their places."""
    if isinstance(node, list):
        return [_resolved(each, parts) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        part = parts[node["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _resolved({**part, **beside}, parts)
    kept = {key: value for key, value in node.items() if key not in PROSE}
    fields_ = kept.pop("properties", {})
    made = {key: _resolved(value, parts) for key, value in kept.items()}
    return made | {name: _resolved(each, parts) for name, each in fields_.items()}


def _flat(place: str, node: Any) -> Iterator[str]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(f"{place}.{key}", value)
    elif isinstance(node, list) and any(isinstance(each, dict | list) for each in node):
        for number, value in enumerate(node):
            yield from _flat(f"{place}[{number}]", value)
    else:
        yield f"{place} {json.dumps(node)}"


def postgresql() -> Iterator[str]:
    """The statements that make the tables on PostgreSQL, in the order in which they run."""
    for number, script in enumerate(product.QUEUE_SCRIPTS):
        for place, statement in enumerate(script.split(";")):
            if statement.strip():
                yield f"queue {number}.{place:02} {one_line(statement)}"
    for service, schema in product.SCHEMAS.items():
        yield f"{service} 0.00 versions in {schema.table}, lock {schema.lock_key}"
        for number, migration in enumerate(schema.migrations, start=1):
            for place, statement in enumerate(migration.statements):
                yield f"{service} {number}.{place:02} {migration.name}: {one_line(statement)}"


SNAPSHOTS: Final[Mapping[str, Callable[[], Iterable[str]]]] = {
    "annotations": annotations,
    "data_folder": files,
    "literals": literals,
    "metrics": metrics,
    "postgresql": postgresql,
    "requests": requests,
    "routes": routes,
    "settings": settings,
    "sqlite": databases,
}


def read(name: str) -> list[str]:
    """The lines of a snapshot as they are committed."""
    return _path(name).read_text().splitlines()


def made(name: str) -> list[str]:
    """The lines of a snapshot as the code makes them now."""
    return sorted(set(SNAPSHOTS[name]()))


def write(name: str) -> None:
    """Commit to the lines that the code makes now."""
    _path(name).write_text("".join(f"{line}\n" for line in made(name)))


def _path(name: str) -> Path:
    return FOLDER / f"{name}.txt"


if __name__ == "__main__":
    for name in sys.argv[1:] or SNAPSHOTS:
        write(name)

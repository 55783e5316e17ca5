"""What a builder asks of a target, shown by one that packs a context as a layer of an image."""

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from gateway.building.builder import Builder, BuildEvent
from gateway.building.child import Report
from gateway.building.errors import BuildError
from gateway.building.locking import Lock, Resolver
from gateway.building.package_cache import PackageCache
from gateway.building.target import BuildContext, BuildResult
from gateway.building.uv import Uv
from gateway.settings import GatewaySettings
from tests.build_contexts import write_context

LOCK = "small==1.0 \\\n    --hash=sha256:00\n"
FILES = {
    "function/handler.py": "def handle(req): return req\n",
    "function/requirements.txt": "small\n",
    "shared_ml/__init__.py": "",
    "requirements.txt": "",
}


class KnownLock:
    """Resolutions that know every demand already: nothing is asked of an index."""

    def resolution(self, key: str) -> str | None:
        return LOCK

    def keep_resolution(self, key: str, lock_key: str, lock: str) -> None:
        raise AssertionError("nothing was resolved")


class LayerTarget:
    """Keeps each context as a deterministic tar, named by its SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.cache = PackageCache(folder / "cache")
        self.resolver = Resolver(Uv({}, self.cache.folder), KnownLock())
        self.built: list[tuple[BuildContext, Lock]] = []
        self.layers: dict[str, bytes] = {}
        self.refusal = ""
        self.freed = -1

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        folder = self._folder / f"work-{len(list(self._folder.glob('work-*')))}"
        folder.mkdir(parents=True)
        yield folder

    async def build(self, context: BuildContext, lock: Lock, report: Report) -> BuildResult:
        await report("Pushing layer 1 of 1")
        if self.refusal:
            raise BuildError(self.refusal)
        self.built.append((context, lock))
        self.freed = self.cache.trim(0)
        layer = BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            for path in sorted(context.folder.rglob("*")):
                entry = tarfile.TarInfo(path.relative_to(context.folder).as_posix())
                archive.addfile(entry)
        digest = hashlib.sha256(layer.getvalue() + lock.text.encode()).hexdigest()
        self.layers[digest] = layer.getvalue()
        return BuildResult(digest, f"{len(self.layers)} layers")


@pytest.fixture
def target(tmp_path: Path) -> LayerTarget:
    return LayerTarget(tmp_path / "images")


async def built(target: LayerTarget, root: Path, files: Mapping[str, str]) -> list[BuildEvent]:
    settings = GatewaySettings(data_dir=root / "data")
    tar = write_context(root / "context.tar", files, "reg.example/fn", {})
    return [event async for event in Builder(settings, target).build(tar)]


async def test_target_gets_the_laid_out_context_its_form_and_its_lock(
    target: LayerTarget, tmp_path: Path
) -> None:
    events = await built(target, tmp_path, FILES)
    assert (events[-1].status, events[-1].error) == ("success", "")
    ((context, lock),) = target.built
    assert (context.image, context.form) == ("reg.example/fn:latest", "handle(req)")
    assert lock.text == LOCK
    assert {"small", "uvloop"} <= {wanted.name for wanted in lock.demand.wanted}
    (layer,) = target.layers.values()
    with tarfile.open(fileobj=BytesIO(layer)) as archive:
        names = set(archive.getnames())
    assert names >= {"function/handler.py", "function/__init__.py", "shared_ml/__init__.py"}
    assert "requirements.txt" not in names


async def test_lines_and_digest_of_the_target_are_told_to_the_caller(
    target: LayerTarget, tmp_path: Path
) -> None:
    events = await built(target, tmp_path, FILES)
    lines = [line for event in events for line in event.log]
    (digest,) = target.layers
    assert lines[-2:] == [
        "Pushing layer 1 of 1",
        f"Built reg.example/fn:latest as {digest[:12]}: handle(req); 1 layers",
    ]


async def test_target_that_refuses_fails_the_build_with_its_reason(
    target: LayerTarget, tmp_path: Path
) -> None:
    target.refusal = "the registry has no room"
    events = await built(target, tmp_path, FILES)
    assert (events[-1].status, events[-1].error) == ("failed", "the registry has no room")


async def test_cache_is_held_while_the_target_builds(target: LayerTarget, tmp_path: Path) -> None:
    target.cache.folder.mkdir(parents=True)
    (target.cache.folder / "wheel").write_bytes(b"x" * 50_000)
    await built(target, tmp_path, FILES)
    assert target.freed == 0
    assert target.cache.trim(0) > 0

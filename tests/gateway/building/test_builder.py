import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway.building.builder import Builder, BuildEvent
from gateway.providers.embedded.bundle_target import BundleTarget
from gateway.providers.embedded.bundles import MARKER, Bundle, Bundles
from gateway.settings import GatewaySettings
from tests.build_contexts import config, entry, folder, link, write_context, write_tar
from tests.fake_index import PASSWORD, USER, serving
from tests.fake_wheels import write_wheel, write_wheelhouse

HANDLER = {"function/handler.py": "def handle(event, context):\n    return 'ok'\n"}


class Machine:
    """A data folder and a builder in it, on a machine whose pip knows one folder of wheels."""

    def __init__(self, root: Path, shared: Path, **variables: str) -> None:
        self.data = root / "data"
        self.wheels = shared / "wheels"
        self._root = root
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_CACHE_DIR": str(shared / "cache"),
            **variables,
        }
        self.bundles = Bundles(self.data)
        self.builder = self.builder_with()

    def builder_with(self, **settings: str) -> Builder:
        table = GatewaySettings.load({"SLUICE_DATA_DIR": str(self.data), **settings})
        return Builder(table, BundleTarget(self.bundles, self.environ))

    def tar(self, files: Mapping[str, str], image: str = "fn:1", **arguments: str) -> Path:
        return write_context(self._root / "context.tar", files, image, arguments)

    async def build(self, files: Mapping[str, str], **arguments: str) -> list[BuildEvent]:
        return [event async for event in self.builder.build(self.tar(files, **arguments))]

    async def bundle(self, files: Mapping[str, str], **arguments: str) -> Bundle:
        events = await self.build(files, **arguments)
        assert events[-1].status == "success", events[-1].error
        bundle = self.bundles.resolve("fn:1")
        assert bundle is not None
        return bundle

    async def failure(self, files: Mapping[str, str], **arguments: str) -> str:
        """The error of a build that must fail and leave nothing."""
        events = await self.build(files, **arguments)
        assert events[-1].status == "failed"
        assert self.leftovers() == []
        return events[-1].error

    def leftovers(self) -> list[str]:
        """What is neither a finished bundle nor a finished environment."""
        known = set(self.bundles.store.digests())
        folders = [*self.bundles.bundles_dir.iterdir(), *self.bundles.environments_dir.iterdir()]
        return [
            path.name
            for path in folders
            if path.is_dir()
            and path.name not in known
            and not self.bundles.has_environment(path.name)
        ]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("builder")
    write_wheelhouse(root / "wheels")
    return root


@pytest.fixture
def machine(tmp_path: Path, shared: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, shared)
    yield made
    made.bundles.close()


def machine_of_index(root: Path, url: str) -> Machine:
    """A machine whose pip has an index instead of a folder, and whose cache is empty."""
    return Machine(
        root, root / "own", PIP_INDEX_URL=url, PIP_NO_INDEX="0", PIP_FIND_LINKS="",
        UV_HTTP_RETRIES="0",
    )  # fmt: skip


def lines(events: list[BuildEvent]) -> str:
    return "\n".join(line for event in events for line in event.log)


def imported(bundle: Bundle, statement: str) -> str:
    """What the bundle's interpreter prints."""
    command: list[str | Path] = [
        bundle.python,
        "-c",
        f"import sys; sys.path.insert(0, '.'); {statement}",
    ]
    return subprocess.run(
        command, cwd=bundle.folder, check=True, capture_output=True, text=True
    ).stdout.strip()


async def test_build_makes_code_and_environment(machine: Machine) -> None:
    files = {
        **HANDLER,
        "requirements.txt": "small<2\n",
        "function/requirements.txt": "py-many  # two modules\n",
        "shared_ml/__init__.py": "NAME = 'shared'\n",
        "Dockerfile": "FROM scratch",
    }
    events = await machine.build(files)
    assert events[-1] == BuildEvent((), "fn:1", "success", "", events[-1].duration)
    assert events[-1].duration > 0
    assert {event.status for event in events[:-1]} == {"in_progress"}
    assert "+ small==1.0" in lines(events)
    bundle = machine.bundles.resolve("fn:1")
    assert bundle is not None
    assert bundle.preload == ("many", "other", "small")
    assert bundle.form == "handle(event, context)"
    code = "import function.handler, shared_ml, small, uvloop; print(small.VERSION)"
    assert imported(bundle, code) == "1.0"


async def test_modules_are_compiled_ahead(machine: Machine) -> None:
    bundle = await machine.bundle({**HANDLER, "function/requirements.txt": "small"})
    site = next(bundle.python.parents[1].glob("lib/python*/site-packages"))
    for place in (bundle.folder / "function", site):
        assert list(place.glob("__pycache__/*.pyc"))
    traced = imported(bundle, "import function.handler as h; print(h.handle.__code__.co_filename)")
    assert Path(traced).name == "handler.py"
    assert ".new-" not in traced


async def test_second_build_asks_nobody(tmp_path: Path) -> None:
    own = tmp_path / "own"
    machine = Machine(tmp_path, own)
    write_wheelhouse(machine.wheels)
    machine.builder = machine.builder_with()
    files = {**HANDLER, "function/requirements.txt": "small"}
    first = await machine.bundle(files)
    for wheel in machine.wheels.iterdir():
        wheel.unlink()
    shutil.rmtree(own / "cache")
    changed = {**files, "function/handler.py": "def handle(req): return 'new'\n"}
    events = await machine.build(changed)
    assert "resolved by an earlier build" in lines(events)
    assert "is there already" in lines(events)
    second = machine.bundles.resolve("fn:1")
    assert second is not None
    assert second.digest != first.digest
    assert (second.lock_key, second.form) == (first.lock_key, "handle(req)")
    assert machine.bundles.get(first.digest) == first
    machine.bundles.close()


async def test_environment_that_was_not_finished_is_made_anew(machine: Machine) -> None:
    files = {**HANDLER, "function/requirements.txt": "small"}
    bundle = await machine.bundle(files)
    (machine.bundles.environment(bundle.lock_key) / MARKER).unlink()
    next(bundle.python.parents[1].glob("lib/*/site-packages/small.py")).unlink()
    assert machine.bundles.resolve("fn:1") is None
    again = await machine.bundle(files)
    assert again == bundle
    assert imported(again, "import small; print(small.VERSION)") == "2.0"


async def test_equal_build_gives_the_equal_digest(machine: Machine) -> None:
    first = await machine.bundle(HANDLER)
    assert await machine.bundle(HANDLER) == first


async def test_refresh_resolves_anew(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_wheelhouse(own / "wheels")
    machine = Machine(tmp_path, own)
    files = {**HANDLER, "function/requirements.txt": "small"}
    first = await machine.bundle(files)
    write_wheel(machine.wheels, "small", "3.0")
    assert (await machine.bundle(files)).lock_key == first.lock_key
    newer = await machine.bundle(files, SLUICE_REFRESH="true")
    assert imported(newer, "import small; print(small.VERSION)") == "3.0"
    machine.bundles.close()


async def test_conflict_names_both_sides(machine: Machine) -> None:
    error = await machine.failure(
        {**HANDLER, "requirements.txt": "small==1.0", "function/requirements.txt": "\nsmall>=2"}
    )
    assert "small==1.0 (the template's requirements.txt line 1)" in error
    assert "small>=2 (function/requirements.txt line 2)" in error
    assert "unsatisfiable" in error


async def test_conflict_with_the_runtime_names_it(machine: Machine) -> None:
    error = await machine.failure({**HANDLER, "function/requirements.txt": "uvloop<0.1"})
    assert "(the runtime)" in error
    assert "uvloop<0.1 (function/requirements.txt line 1)" in error


async def test_conflict_behind_a_library_names_who_asked(machine: Machine) -> None:
    error = await machine.failure(
        {**HANDLER, "function/requirements.txt": "needs-old-small\nsmall>=2"}
    )
    assert "needs-old-small (function/requirements.txt line 1)" in error
    assert "small>=2 (function/requirements.txt line 2)" in error


async def test_unknown_library_is_named(machine: Machine) -> None:
    error = await machine.failure({**HANDLER, "function/requirements.txt": "no-such-thing"})
    assert "no-such-thing (function/requirements.txt line 1)" in error


async def test_hash_of_the_author_is_enforced(machine: Machine) -> None:
    wrong = "small==1.0 --hash=sha256:" + "0" * 64
    error = await machine.failure({**HANDLER, "function/requirements.txt": wrong})
    assert "function/requirements.txt line 1" in error
    assert "none of its hashes" in error


async def test_changed_wheel_is_not_installed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_wheelhouse(own / "wheels")
    machine = Machine(tmp_path, own)
    files = {**HANDLER, "function/requirements.txt": "small"}
    bundle = await machine.bundle(files)
    shutil.rmtree(machine.bundles.environment(bundle.lock_key))
    write_wheel(machine.wheels, "small", "2.0", {"small.py": "VERSION = 'evil'\n"})
    machine.environ["UV_CACHE_DIR"] = str(tmp_path / "other-cache")
    machine.builder = machine.builder_with()
    error = await machine.failure(files)
    assert "hash" in error.lower()
    machine.bundles.close()


async def test_source_distribution_is_built_on_request_only(machine: Machine) -> None:
    files = {**HANDLER, "function/requirements.txt": "fromsource"}
    error = await machine.failure(files)
    assert "fromsource (function/requirements.txt line 1)" in error
    assert "SLUICE_ALLOW_SDIST=true" in error
    bundle = await machine.bundle(files, SLUICE_ALLOW_SDIST="true")
    assert imported(bundle, "import fromsource; print(fromsource.VERSION)") == "1.0"


async def test_source_distribution_needs_the_operators_consent(machine: Machine) -> None:
    machine.builder = machine.builder_with(SLUICE_BUILD_SDISTS="false")
    error = await machine.failure(HANDLER, SLUICE_ALLOW_SDIST="true")
    assert "SLUICE_BUILD_SDISTS is false" in error


async def test_build_argument_that_is_no_flag_is_refused(machine: Machine) -> None:
    error = await machine.failure(HANDLER, SLUICE_ALLOW_SDIST="perhaps")
    assert "SLUICE_ALLOW_SDIST='perhaps': expected true or false" in error


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"function/handler.py": "def main(): pass"}, "handle(event, context), handle(req) or app"),
        ({"function/handler.py": "x = 1\ndef handle(:"}, "function/handler.py line 2"),
        ({"handler.js": "", "Dockerfile": ""}, "Dockerfile is for clusters"),
        ({**HANDLER, "function/requirements.txt": "-r /etc/passwd"}, "'-r' is refused"),
        ({**HANDLER, "sluice.py": ""}, "the runtime has that name"),
    ],
)
async def test_context_that_cannot_run_is_a_failed_build(
    machine: Machine, files: dict[str, str], words: str
) -> None:
    assert words in await machine.failure(files)
    assert machine.bundles.images() == []


async def test_bad_image_is_a_failed_build(machine: Machine) -> None:
    events = [e async for e in machine.builder.build(machine.tar(HANDLER, image="Fn:1"))]
    assert events[-1].status == "failed"
    assert "'Fn:1'" in events[-1].error


async def test_tar_that_reaches_outside_is_a_failed_build(machine: Machine, tmp_path: Path) -> None:
    tar = write_tar(
        tmp_path / "evil.tar",
        [folder("context"), link("context/l", "/"), entry("context/l/x", b""), config()],
    )
    events = [event async for event in machine.builder.build(tar)]
    assert (len(events), events[-1].status) == (1, "failed")
    assert "'context/l' is a symbolic link" in events[-1].error
    assert machine.leftovers() == []


async def test_settings_without_effect_are_told_by_name(machine: Machine) -> None:
    events = await machine.build(
        HANDLER, PYTHON_VERSION="2.7", ADDITIONAL_PACKAGE="libgomp1", TOKEN="s3cret"
    )
    said = lines(events)
    assert "PYTHON_VERSION=2.7 is for clusters" in said
    assert "Without effect outside a cluster: ADDITIONAL_PACKAGE, TOKEN" in said
    assert "s3cret" not in said


async def test_builds_of_one_lock_make_one_environment(machine: Machine, tmp_path: Path) -> None:
    async def build(number: int) -> list[BuildEvent]:
        files = {**HANDLER, "function/requirements.txt": "small", "n.py": f"N = {number}\n"}
        tar = write_context(tmp_path / f"{number}.tar", files, f"fn{number}:1")
        return [event async for event in machine.builder.build(tar)]

    builds = await asyncio.gather(*map(build, range(4)))
    assert [events[-1].status for events in builds] == ["success"] * 4
    assert sum("Making environment" in lines(events) for events in builds) == 1
    assert len({image.digest for image in machine.bundles.images()}) == 4


@pytest.mark.parametrize("words", ["is for clusters", "Making environment"])
async def test_cancelled_build_leaves_nothing(machine: Machine, words: str) -> None:
    files = {**HANDLER, "function/requirements.txt": "small"}
    events = machine.builder.build(machine.tar(files, PYTHON_VERSION="2.7"))
    async for event in events:
        if words in "\n".join(event.log):
            break
    await events.aclose()
    assert machine.leftovers() == []
    assert machine.bundles.images() == []
    assert (await machine.bundle(files)).preload == ("small",)


async def test_abandoned_build_frees_the_next(machine: Machine) -> None:
    files = {**HANDLER, "function/requirements.txt": "small"}
    waiting = asyncio.create_task(machine.build(files))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await machine.bundle(files)).preload == ("small",)


async def test_build_out_of_time_fails(machine: Machine) -> None:
    machine.builder = machine.builder_with(SLUICE_BUILD_TIMEOUT="1ms")
    assert "longer than 0.001 s" in await machine.failure(HANDLER)


async def test_cache_above_its_limit_is_emptied_after_a_build(tmp_path: Path, shared: Path) -> None:
    machine = Machine(tmp_path, shared)
    del machine.environ["UV_CACHE_DIR"]
    files = {**HANDLER, "function/requirements.txt": "small"}
    machine.builder = machine.builder_with()
    await machine.bundle(files)
    assert machine.bundles.cache.folder.is_dir()
    machine.builder = machine.builder_with(SLUICE_BUILD_CACHE_BYTES="1")
    bundle = await machine.bundle(files)
    assert not machine.bundles.cache.folder.exists()
    assert imported(bundle, "import small; print(small.VERSION)") == "2.0"
    machine.bundles.close()


async def test_full_disk_is_a_failed_build(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(staged: Path, row: object) -> Bundle:
        raise OSError(28, "No space left on device", str(staged))

    monkeypatch.setattr(machine.bundles, "add", full)
    error = await machine.failure(HANDLER)
    assert error == "the builder cannot go on: No space left on device"


async def test_index_of_pip_is_asked_with_its_password(
    tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(shared / "wheels") as (address, answered):
        url = f"http://{USER}:{PASSWORD}@{address}"
        machine = machine_of_index(tmp_path, url)
        files = {**HANDLER, "function/requirements.txt": "small"}
        events = await machine.build(files)
        assert events[-1].status == "success", events[-1].error
        assert "/simple/small/" in answered
        assert any("small-2.0" in path for path in answered)
        bundle = machine.bundles.resolve("fn:1")
        assert bundle is not None
    failed = await machine.build({**files, "function/requirements.txt": "small<2"})
    assert failed[-1].status == "failed"
    assert "127.0.0.1" in failed[-1].error
    said = repr([*events, *failed]) + caplog.text
    assert PASSWORD not in said
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*.txt"))
    assert PASSWORD.encode() not in kept + (machine.data / "bundles.sqlite").read_bytes()
    machine.bundles.close()


async def test_cancelled_build_ends_its_download(tmp_path: Path) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        while await reader.read(1024):
            continue
        ended.set()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    machine = machine_of_index(tmp_path, f"http://127.0.0.1:{port}/simple")
    build = asyncio.create_task(machine.build(HANDLER))
    await asyncio.wait_for(asked.wait(), 60)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    await asyncio.wait_for(ended.wait(), 60)
    assert machine.leftovers() == []
    server.close()
    await server.wait_closed()
    machine.bundles.close()


@pytest.mark.network
async def test_real_library_comes_from_the_index_that_pip_uses(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path / "data")
    settings = GatewaySettings.load({"SLUICE_DATA_DIR": str(tmp_path / "data")})
    tar = write_context(tmp_path / "x.tar", {**HANDLER, "function/requirements.txt": "six==1.17.0"})
    events = [event async for event in Builder(settings, BundleTarget(bundles)).build(tar)]
    assert events[-1].status == "success", events[-1].error
    bundle = bundles.resolve("fn:1")
    assert bundle is not None
    assert bundle.preload == ("six",)
    code = "import six, uvloop, httptools, prometheus_client; print(six.__version__)"
    assert imported(bundle, code) == "1.17.0"
    bundles.close()

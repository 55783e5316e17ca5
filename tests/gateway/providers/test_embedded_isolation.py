"""What a function may not do to the gateway, to other functions and to the machine."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.providers.embedded import scratch
from gateway.types.function import UnixAddress
from sluice.runtime.launching.sandbox import OWN_PID_MAX, kernel_version
from testbed.embedded import PATIENCE, call_json

pytestmark = pytest.mark.timeout(300)
ROOT: Final = Path(__file__).parents[3]
# The gateway ends what does not drain after 65 s, and waits 10 s for its end.
DRAIN_SECONDS: Final = 150.0
# A user without an account, so that no machine has to make one first.
ORDINARY_UID: Final = 61234
# The tests' own interpreter may stand in root's home.
SYSTEM_PYTHON: Final = "/usr/bin/python3"
INTRUDER: Final = """
import ctypes, json, os, signal, socket, subprocess, sys

def attach(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def attempt(action):
    try:
        return {"done": str(action())[:2000]}
    except OSError as error:
        return {"refused": error.strerror}

def read(path):
    with open(path, "rb") as file:
        return file.read(2000).decode("latin-1")

def write(path):
    with open(path, "w") as file:
        file.write("x")

def capabilities():
    lines = read("/proc/self/status").splitlines()
    return [line for line in lines if line.startswith(("Cap", "NoNewPrivs"))]

def uncover(path):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(path.encode(), 2) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def leave_namespaces(path):
    # with every capability in namespaces of its own
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        refused = libc.unshare(0x10000000 | 0x00020000) or libc.umount2(path.encode(), 2)
        os._exit(0 if refused else 1)
    if os.waitpid(child, 0)[1] == 0:
        raise OSError(1, "refused")

def fork_until_refused(most):
    children = []
    try:
        while len(children) < most:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return len(children)

def fill(path):
    try:
        with open(path, "wb", buffering=0) as file:
            while file.write(bytes(1 << 20)) == 1 << 20:
                pass
            return file.write(bytes(1 << 20))
    finally:
        os.unlink(path)

def dig(path):
    os.chdir(path)
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    os.mkdir("locked", 0)
    os.chdir("/")

ACTIONS = {
    "leave": leave_namespaces,
    "fork": fork_until_refused,
    "fill": fill,
    "dig": dig,
    "signal": lambda pid: os.kill(int(pid), signal.SIGTERM),
    "connect": lambda path: socket.socket(socket.AF_UNIX).connect(path),
    "attach": lambda pid: attach(int(pid)),
    "read": read,
    "write": write,
    "list": lambda path: sorted(os.listdir(path)),
    "kill": lambda pid: os.kill(int(pid), signal.SIGKILL),
    "uncover": uncover,
    "capabilities": lambda _: capabilities(),
    "processes": lambda _: sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()),
    "descriptors": lambda _: sorted(os.readlink(f"/proc/self/fd/{n}") for n in (3, 4)),
    "daemon": lambda marker: subprocess.Popen(
        ["sh", "-c", "sleep 300 & wait", marker], start_new_session=True).pid,
    "run": lambda command: subprocess.run(command, shell=True, capture_output=True).stdout.decode(),
}

def handle(event, context):
    asked = json.loads(event.body)
    return json.dumps([attempt(lambda: ACTIONS[action](value)) for action, value in asked])
"""
PROCESS_LIMIT: Final = 64
TMP_BYTES: Final = 8 << 20
HELLO: Final = "def handle(event, context):\n    return 'hello'\n"
HOG: Final = """
def handle(event, context):
    held = []
    while True:
        held.append(bytearray(b"x" * (1 << 20)))
"""


FUNCTIONS: Final[dict[str, Any]] = {"intruder": {}, "victim": {}, "hog": {"memory": "64Mi"}}


@dataclass(frozen=True, slots=True)
class User:
    """Who runs a gateway. uid: None for the tests' own user; capable: whether root keeps rights."""

    home: Path
    uid: int | None = None
    capable: bool = True

    def command(self) -> list[str]:
        """The interpreter, and what runs it as this user."""
        if self.uid is not None:
            ids = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
            return ["setpriv", *ids, SYSTEM_PYTHON]
        if not self.capable:
            return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable]
        return [sys.executable]

    def environ(self) -> dict[str, str]:
        """The variables that its programs get."""
        if self.uid is None:
            return dict(os.environ)
        libraries = next(path for path in sys.path if path.endswith("site-packages"))
        return {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "PYTHONPATH": libraries}


@dataclass(slots=True)
class Gateway:
    """A gateway-like process: what it told when all functions were ready."""

    process: asyncio.subprocess.Process
    user: User
    data_dir: Path
    facts: dict[str, Any]

    def socket(self, name: str) -> UnixAddress:
        return UnixAddress(self.facts["replicas"][name]["socket"])

    async def attempts(self, *asked: tuple[str, object]) -> list[dict[str, str]]:
        """What function `intruder` got from each action: `done` with text, or `refused`."""
        answers: list[dict[str, str]] = await call_json(self.socket("intruder"), asked)
        return answers

    async def next_line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        assert line, "the gateway process ended"
        document: dict[str, Any] = json.loads(line)
        return document


@asynccontextmanager
async def running(user: User, data_dir: Path, **knobs: Any) -> AsyncIterator[Gateway]:
    """A gateway of `user` with functions intruder, victim and hog (limit 64Mi)."""
    process = await asyncio.create_subprocess_exec(
        *user.command(),
        "-m",
        "tests.gateway.providers.gateway_process",
        cwd=ROOT,
        env=user.environ() | {"GATEWAY_CREDENTIAL": "in the gateway's environment"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdin is not None
    gateway = Gateway(process, user, data_dir, {})
    images = {"intruder": INTRUDER, "victim": HELLO, "hog": HOG}
    functions: dict[str, Any] = {"intruder": {}, "victim": {}, "hog": {"memory": "64Mi"}}
    request = {"data_dir": str(data_dir), "images": images, "functions": functions, "knobs": knobs}
    process.stdin.write(json.dumps(request).encode() + b"\n")
    try:
        gateway.facts = await gateway.next_line()
        yield gateway
    finally:
        if process.returncode is None:
            process.stdin.close()
            await asyncio.wait_for(process.wait(), DRAIN_SECONDS)


@pytest.fixture
async def bare_gateway() -> AsyncIterator[Gateway]:
    """A gateway to which the kernel refuses namespaces."""
    if os.geteuid() != 0:
        pytest.skip("not root: an ordinary user is refused by no simple means")
    folder = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    try:
        async with running(User(folder, capable=False), folder / "data") as started:
            yield started
    finally:
        scratch.remove(folder)


@pytest.fixture(params=["own", "ordinary"])
async def gateway(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """A gateway of the tests' own user, then, when that is root, of an ordinary one."""
    if request.param == "own":
        user = User(Path.home())
        (ROOT / ".pytest_cache").mkdir(exist_ok=True)
        folder = parent = Path(tempfile.mkdtemp(prefix="sluice-test-", dir=ROOT / ".pytest_cache"))
    else:
        user = ordinary_user()
        # Below the home folder, which is hidden, as above below one that is not.
        parent, folder = user.home, user.home / "test"
        folder.mkdir()
        os.chown(folder, ORDINARY_UID, ORDINARY_UID)
    try:
        async with running(
            user, folder / "data", tmp_bytes=TMP_BYTES, process_limit=PROCESS_LIMIT
        ) as started:
            yield started
    finally:
        scratch.remove(parent)


def ordinary_user() -> User:
    """A user without rights and without an account, with a home folder that the caller removes."""
    if os.geteuid() != 0:
        pytest.skip("not root: the tests' own user is the ordinary one already")
    if not Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"there is no {SYSTEM_PYTHON} that an ordinary user may run")
    home = Path(tempfile.mkdtemp(prefix="sluice-test-", dir="/home"))
    os.chown(home, ORDINARY_UID, ORDINARY_UID)
    return User(home, ORDINARY_UID)


async def test_function_reaches_nothing_but_its_own(gateway: Gateway) -> None:
    data, pid = gateway.data_dir, gateway.facts["pid"]
    victim = gateway.facts["replicas"]["victim"]["id"]
    assert gateway.facts["isolation"] == "namespaces"
    actions: list[tuple[str, object]] = [
        ("read", "/var/openfaas/secrets/victim-token"),
        ("read", f"{data}/function-secrets/openfaas-fn/victim-token"),
        ("read", f"{data}/run/secret-views/openfaas-fn.victim/victim-token"),
        ("read", f"{data}/secrets/basic-auth-password"),
        ("read", f"{data}/secrets/payload-secret"),
        ("read", f"{data}/secrets/registry-token"),
        ("read", f"{data}/function-secrets/openfaas-fn/registry-token"),
        ("read", f"{data}/functions.sqlite"),
        ("read", f"{data}/logs/openfaas-fn/victim/{victim}.log"),
        ("list", f"{data}/run/replicas/{victim}"),
        ("list", f"{data}/run/sockets"),
        ("read", f"/proc/{pid}/environ"),
        ("read", f"/proc/{pid}/mem"),
        ("kill", pid),
        ("kill", gateway.facts["zygotes"][0]),
        ("attach", pid),
        ("attach", gateway.facts["zygotes"][0]),
        ("connect", gateway.facts["replicas"]["victim"]["socket"]),
        ("connect", f"{data}/run/registry.sock"),
        ("connect", f"{data}/run/triggers.sock"),
        ("leave", str(data)),
        ("leave", "/run"),
        *(("write", path) for path in gateway.facts["shared"]),
        ("write", "/sluice-test"),
        ("write", "/etc/sluice-test"),
        ("write", "/proc/sys/kernel/core_pattern"),
        ("write", f"{data}/sluice-test"),
        ("uncover", str(data)),
        ("uncover", "/proc"),
        ("uncover", str(Path.home())),
        ("list", "/run/user"),
        ("read", "/dev/vda"),
    ]
    refused = await gateway.attempts(*actions)
    allowed = [
        action for action, response in zip(actions, refused, strict=True) if "done" in response
    ]
    # Where the data folder lies under /tmp, its name leads into the replica's own /tmp.
    assert [action for action in allowed if action != ("write", f"{data}/sluice-test")] == []
    assert not (data / "sluice-test").exists()
    assert gateway.process.returncode is None


async def test_function_holds_no_more_than_its_share_of_disk(gateway: Gateway) -> None:
    (full,) = await gateway.attempts(("fill", "/tmp/file"))  # noqa: S108 - the replica's own
    assert full == {"refused": "No space left on device"}
    (again,) = await gateway.attempts(("write", "/tmp/file"))  # noqa: S108 - likewise
    assert "done" in again


async def test_fork_bomb_stays_within_its_replica(gateway: Gateway) -> None:
    if kernel_version() < OWN_PID_MAX:
        pytest.skip(f"Linux {OWN_PID_MAX}: before it root's processes are not counted apart")
    (forked,) = await gateway.attempts(("fork", 10 * PROCESS_LIMIT))
    assert forked == {"refused": "Resource temporarily unavailable"}
    assert await gateway.attempts(("processes", None)) == [{"done": "[1]"}]


async def test_folders_without_end_in_a_cache_do_not_outlive_the_replica(gateway: Gateway) -> None:
    (dug,) = await gateway.attempts(("dig", "/tmp/.cache"))  # noqa: S108 - the function's own
    assert "done" in dug
    assert gateway.process.stdin is not None
    gateway.process.stdin.close()
    assert await asyncio.wait_for(gateway.process.wait(), PATIENCE) == 0
    assert not (gateway.data_dir / "run" / "replicas").exists()


async def test_function_has_what_it_needs(gateway: Gateway) -> None:
    answers = await gateway.attempts(
        ("read", "/var/openfaas/secrets/intruder-token"),
        ("list", "/var/openfaas/secrets"),
        ("write", "/tmp/file"),  # noqa: S108 - in the replica's own folder
        ("write", "/dev/shm/file"),  # noqa: S108 - likewise
        ("write", "/dev/null"),
        ("read", "/dev/urandom"),
        ("processes", None),
        ("capabilities", None),
        ("list", "/var/lib/dpkg"),
        ("run", "echo from the shell"),
    )
    assert [response for response in answers if "done" not in response] == []
    own, names, *_, processes, capabilities, _, shell = [each["done"] for each in answers]
    assert own == "secret of intruder"
    assert names == "['intruder-token']"
    assert processes == "[1]"
    assert "NoNewPrivs:\\t1" in capabilities
    assert all(line.endswith("0" * 16) for line in eval_lines(capabilities) if "Cap" in line)
    assert shell == "from the shell\n"


def eval_lines(text: str) -> list[str]:
    return [part.strip(" '[]") for part in text.split(",")]


async def test_root_without_capabilities_cannot_read_what_root_owns(gateway: Gateway) -> None:
    (response,) = await gateway.attempts(("read", "/etc/shadow"))
    assert response.get("done", "") == ""


async def test_only_the_handed_descriptors_are_open(gateway: Gateway) -> None:
    response, files = await gateway.attempts(
        ("descriptors", None), ("run", "readlink /proc/1/fd/* | grep -v -e anon_inode -e pipe")
    )
    assert [each.partition(":")[0].strip("[' ") for each in response["done"].split(",")] == [
        "pipe",
        "socket",
    ]
    assert "/" not in files["done"].replace("/dev/null", "")


async def test_memory_limit_holds(gateway: Gateway) -> None:
    """As an ordinary user without a control group of its own it is watched from outside."""
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call_json(gateway.socket("hog"), None)
    line = await gateway.next_line()
    assert line["failed"] == "hog"
    assert line["reason"].startswith("memory limit 64Mi exceeded: used ")


async def test_detached_grandchild_ends_with_its_replica(gateway: Gateway) -> None:
    marker = f"marker-{gateway.data_dir.parent.name}"
    await gateway.attempts(("daemon", marker))
    watched = await descriptors_of(marker)
    assert gateway.process.stdin is not None
    gateway.process.stdin.close()
    await asyncio.wait_for(gateway.process.wait(), PATIENCE)
    await ended(watched)
    assert processes_with(marker) == []


async def test_killed_gateway_leaves_no_process_and_starts_again(gateway: Gateway) -> None:
    marker = f"marker-{gateway.data_dir.parent.name}"
    await gateway.attempts(("daemon", marker))
    below = descendants(gateway.facts["pid"])
    assert len(below) >= 8, "zygote, and for each function its intermediate and its replica"
    watched = [os.pidfd_open(pid) for pid in below] + await descriptors_of(marker)
    gateway.process.send_signal(signal.SIGKILL)
    await gateway.process.wait()
    await ended(watched)
    assert processes_with(marker) == []
    async with asyncio.timeout(PATIENCE):
        while processes_with(str(gateway.data_dir)):  # noqa: ASYNC110 (the kernel tells nobody)
            await asyncio.sleep(0.01)
    async with running(gateway.user, gateway.data_dir) as again:
        assert await again.attempts(("processes", None)) == [{"done": "[1]"}]
        for kind in ("replicas", "sockets"):
            assert len(list((gateway.data_dir / "run" / kind).iterdir())) == len(FUNCTIONS)


async def test_where_the_kernel_refuses_it_says_so_and_runs_without(bare_gateway: Gateway) -> None:
    isolation = bare_gateway.facts["isolation"]
    assert isolation == "none: unshare namespaces: Operation not permitted"
    folder, pid = await bare_gateway.attempts(
        ("run", "printf %s $SLUICE_SECRETS_DIR"), ("run", "printf %s $PPID")
    )
    (secret,) = await bare_gateway.attempts(("read", f"{folder['done']}/intruder-token"))
    assert secret == {"done": "secret of intruder"}
    assert int(pid["done"]) > 1


async def test_detached_grandchild_ends_without_a_namespace_too(bare_gateway: Gateway) -> None:
    marker = f"marker-{bare_gateway.data_dir.parent.name}"
    await bare_gateway.attempts(("daemon", marker))
    watched = await descriptors_of(marker)
    assert bare_gateway.process.stdin is not None
    bare_gateway.process.stdin.close()
    await asyncio.wait_for(bare_gateway.process.wait(), PATIENCE)
    await ended(watched)
    assert processes_with(marker) == []


def processes_with(word: str) -> list[int]:
    """Processes that have `word` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def descriptors_of(marker: str) -> list[int]:
    """Descriptors of what was started last: its command line shows a moment after its start."""
    async with asyncio.timeout(PATIENCE):
        while not (found := processes_with(marker)):  # noqa: ASYNC110 (the kernel tells nobody)
            await asyncio.sleep(0.01)
    return [os.pidfd_open(pid) for pid in found]


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a task that ends meanwhile has none
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


async def ended(descriptors: list[int]) -> None:
    """Return once every process behind these pidfds has ended."""
    loop = asyncio.get_running_loop()
    for descriptor in descriptors:
        over = asyncio.Event()
        loop.add_reader(descriptor, over.set)
        await asyncio.wait_for(over.wait(), PATIENCE)
        loop.remove_reader(descriptor)
        os.close(descriptor)

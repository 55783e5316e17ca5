"""The sandbox alone: a small program confines itself and says what it sees."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from sluice.launch import Sandbox
from sluice.runtime.launching.sandbox import main, probe

ROOT: Final = Path(__file__).parents[4]
PROGRAM: Final = """
import json, os, signal, sys
from sluice.runtime.launching import kernel
from sluice.runtime.launching import sandbox as isolation
document, code = json.loads(sys.argv[1]), sys.argv[2]
try:
    isolation.unshare()
    child = os.fork()
    if child == 0:
        isolation.confine(isolation.Sandbox.of(document))
        print(json.dumps(eval(code)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
except kernel.KernelError as error:
    print(json.dumps({"refused": str(error)}))
"""


def seen(sandbox: Sandbox, code: str, *wrapper: str) -> Any:
    """What `code`, an expression, gives within the sandbox."""
    result = subprocess.run(
        [*wrapper, sys.executable, "-c", PROGRAM, json.dumps(sandbox._asdict()), code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.stdout, result.stderr
    return json.loads(result.stdout.splitlines()[0])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder outside /tmp with what a sandbox is made of; removed with its files."""
    for name in ("own", "hidden/kept", "hidden/other", "secrets"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "hidden" / "kept" / "code").write_text("kept")
    (tmp_path / "hidden" / "password").write_text("password")
    (tmp_path / "secrets" / "token").write_text("token")
    return tmp_path


def sandbox_of(place: Path, **fields: Any) -> Sandbox:
    known = {
        "hide": (str(place / "hidden"),),
        "show": (str(place / "hidden" / "kept"), sys.base_prefix),
        "tmp": str(place / "own"),
        "secrets": str(place / "secrets"),
    }
    return Sandbox(**(known | fields))


def test_hidden_folder_shows_only_what_is_named(place: Path) -> None:
    hidden = place / "hidden"
    names, content = seen(
        sandbox_of(place), f"[os.listdir({str(hidden)!r}), open('{hidden}/kept/code').read()]"
    )
    assert (names, content) == (["kept"], "kept")


def test_secrets_are_at_their_path_and_tmp_is_the_own_folder(place: Path) -> None:
    (place / "own" / "mine").touch()
    secrets, tmp = seen(
        sandbox_of(place), "[os.listdir('/var/openfaas/secrets'), sorted(os.listdir('/tmp'))]"
    )
    assert secrets == ["token"]
    assert "mine" in tmp


def test_no_secrets_leave_an_empty_folder(place: Path) -> None:
    assert seen(sandbox_of(place, secrets=""), "os.listdir('/var/openfaas/secrets')") == []


def test_process_is_the_first_of_its_namespace_without_capabilities(place: Path) -> None:
    pid, status = seen(sandbox_of(place), "[os.getpid(), open('/proc/self/status').read()]")
    facts = dict(line.partition(":\t")[::2] for line in status.splitlines())
    assert pid == 1
    assert {facts[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert facts["NoNewPrivs"] == "1"


def test_devices_are_few_and_var_keeps_the_rest_of_the_machine(place: Path) -> None:
    devices, var = seen(sandbox_of(place), "[os.listdir('/dev'), os.listdir('/var')]")
    assert {"null", "urandom", "shm", "fd"} <= set(devices)
    assert not {"kmsg", "mem", "vda", "sda", "pts"} & set(devices)
    assert set(os.listdir("/var")) - {"openfaas"} <= set(var)  # noqa: PTH208 - names are compared


def test_mounts_of_the_machine_stay_as_they_were(place: Path) -> None:
    def mounts() -> set[str]:
        return set(Path("/proc/self/mountinfo").read_text().splitlines())

    # What others mount at the same moment is new the first time only.
    for _ in range(5):
        before = mounts()
        seen(sandbox_of(place), "1")
        if mounts() == before:
            return
    pytest.fail("the machine's mounts changed each time")


def test_missing_source_is_named(place: Path) -> None:
    response = seen(sandbox_of(place, show=(str(place / "absent"),)), "1")
    assert response == {"refused": f"{place / 'absent'}: No such file or directory"}


def test_probe_says_nothing_where_isolation_works(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe(Sandbox((), (), str(place / "own"))) == ""
    assert main([str(place / "own")]) == 0
    assert capsys.readouterr().out == ""


def test_probe_names_what_the_kernel_refuses(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: an ordinary user is refused by no simple means")
    program = (
        "from sluice.runtime.launching.sandbox import *\n"
        f"print(probe(Sandbox((), (), {str(place)!r})))"
    )
    result = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert result.stdout.strip() == "unshare namespaces: Operation not permitted"

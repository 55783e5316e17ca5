"""Functions that misbehave: each is contained, and its caller is told why."""

import time
from pathlib import Path

import pytest

from sluice.cli.errors import CommandError
from tests.e2e.conftest import ECHO, Stage

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


def test_handler_with_a_syntax_error_fails_its_build_with_file_and_line(
    stage: Stage, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match=r"handler\.py.*2|line 2"):
        stage.build(tmp_path, "syntax", "x = 1\ndef handle(event context):\n    pass\n")


def test_handler_without_handle_fails_its_build_with_what_was_looked_for(
    stage: Stage, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match="handle"):
        stage.build(tmp_path, "nothing", "def predict(rows):\n    return rows\n")


def test_context_without_a_handler_fails_its_build(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"handler\.py"):
        stage.build(tmp_path, "empty", None)


def test_handler_that_fails_at_import_leaves_its_reason_in_describe(
    stage: Stage, tmp_path: Path
) -> None:
    stage.deploy(tmp_path, "broken", "import absent_module\n" + ECHO)
    deadline = time.monotonic() + 120
    while "absent_module" not in str(stage.api.function("broken")):
        assert time.monotonic() < deadline, stage.api.function("broken")
        time.sleep(0.05)
    response = stage.http.post("/function/broken", content=b"x")
    assert response.status_code == 503
    assert "absent_module" in response.text
    stage.api.remove("broken")


def test_failed_update_keeps_the_old_version(stage: Stage, tmp_path: Path) -> None:
    stage.serve(tmp_path, "kept", ECHO)
    stage.deploy(tmp_path, "kept", "raise RuntimeError('not today')\n" + ECHO)
    deadline = time.monotonic() + 120
    while "not today" not in str(stage.api.function("kept")):
        assert stage.http.post("/function/kept", content=b"still").content == b"still"
        assert time.monotonic() < deadline, stage.api.function("kept")
    assert stage.http.post("/function/kept", content=b"there").content == b"there"
    stage.api.remove("kept")


def test_handler_that_raises_answers_500_with_a_call_id_and_no_traceback(
    stage: Stage, tmp_path: Path
) -> None:
    stage.serve(tmp_path, "raises", "def handle(event, context):\n    raise KeyError('secret-7')\n")
    response = stage.http.post("/function/raises", headers={"x-call-id": "call-42"})
    assert response.status_code == 500
    assert "call-42" in response.text
    assert "secret-7" not in response.text
    assert "Traceback" not in response.text
    deadline = time.monotonic() + 120
    # What a replica writes goes through a pipe, its answers do not.
    while "secret-7" not in (logs := stage.platform.sluice("logs", "raises").stdout):
        assert time.monotonic() < deadline, logs
    assert "call-42" in logs
    stage.api.remove("raises")


def test_handler_that_exits_costs_its_caller_a_502_and_comes_back(
    stage: Stage, tmp_path: Path
) -> None:
    source = "import os\ndef handle(event, context):\n    if event.body == b'die':\n"
    source += "        os._exit(3)\n    return 'alive'\n"
    stage.serve(tmp_path, "exits", source)
    response = stage.http.post("/function/exits", content=b"die")
    assert response.status_code == 502
    assert "3" in response.text
    assert stage.http.post("/function/exits", content=b"?").text == "alive"
    assert stage.until("exits", availableReplicas=1)["replicaStates"][0]["restarts"] >= 1
    stage.api.remove("exits")


def test_memory_hog_dies_alone_and_its_caller_reads_limit_and_usage(
    stage: Stage, tmp_path: Path
) -> None:
    source = (
        "def handle(event, context):\n    hog = []\n"
        "    while True:\n        hog.append(bytearray(b'x' * (4 << 20)))\n"
    )
    stage.serve(tmp_path, "bystander", ECHO)
    stage.serve(tmp_path, "hog", source, limits={"memory": "96Mi"})
    response = stage.http.post("/function/hog", content=b"")
    assert response.status_code == 502
    assert "96Mi" in response.text
    assert "MiB" in response.text
    assert stage.http.post("/function/bystander", content=b"here").content == b"here"
    stage.api.remove("hog")
    stage.api.remove("bystander")


def test_endless_loop_is_ended_and_the_function_comes_back(stage: Stage, tmp_path: Path) -> None:
    source = (
        "async def handle(event, context):\n"
        "    while event.body == b'loop':\n        pass\n    return 'alive'\n"
    )
    stage.serve(tmp_path, "loops", source)
    response = stage.http.post("/function/loops", content=b"loop")
    assert response.status_code == 502
    assert "health" in response.text
    assert stage.http.post("/function/loops", content=b"?").text == "alive"
    stage.api.remove("loops")


def test_sync_handler_over_its_timeout_answers_504_and_is_replaced(
    stage: Stage, tmp_path: Path
) -> None:
    source = (
        "import threading\ndef handle(event, context):\n"
        "    if event.body == b'stay':\n        threading.Event().wait()\n    return 'alive'\n"
    )
    stage.serve(tmp_path, "stays", source, envVars={"exec_timeout": "3s"})
    assert stage.http.post("/function/stays", content=b"stay").status_code == 504
    assert stage.http.post("/function/stays", content=b"?").text == "alive"
    stage.api.remove("stays")


def test_function_cannot_read_what_is_not_its_own(stage: Stage, tmp_path: Path) -> None:
    stage.api.write_secret("POST", "mine", b"my-value")
    stage.api.write_secret("POST", "theirs", b"their-value")
    source = (
        "import pathlib\n"
        "def read(path):\n    try:\n        return pathlib.Path(path).read_text()\n"
        "    except OSError as error:\n        return type(error).__name__\n"
        "def handle(event, context):\n    return [read(p) for p in event.body.decode().split()]\n"
    )
    stage.serve(tmp_path, "spy", source, secrets=["mine"])
    data = stage.platform.data_dir
    gateway = next(iter(stage.platform.pids()))
    paths = [
        "/var/openfaas/secrets/mine",
        "/var/openfaas/secrets/theirs",
        f"{data}/function-secrets/openfaas-fn/theirs",
        f"{data}/secrets/basic-auth-password",
        f"{data}/functions.sqlite",
        f"/proc/{gateway}/environ",
    ]
    response = stage.http.post("/function/spy", content=" ".join(paths).encode()).json()
    assert response[0] == "my-value"
    assert all(text.endswith("Error") for text in response[1:]), response
    stage.api.remove("spy")
    stage.api.remove_secret("mine")
    stage.api.remove_secret("theirs")


def test_unknown_function_is_named_in_its_404(stage: Stage) -> None:
    response = stage.http.get("/function/absent")
    assert response.status_code == 404
    assert "absent" in response.text


@pytest.mark.parametrize("path", ["/system/functions", "/system/info", "/registry/datasets"])
def test_wrong_password_is_refused_everywhere(stage: Stage, path: str) -> None:
    response = stage.http.get(path, auth=("admin", "wrong"))
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Basic realm="Restricted"'

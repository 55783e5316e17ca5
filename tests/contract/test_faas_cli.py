"""What a developer does with the unmodified faas-cli; contract section 1.10 names the calls."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.platform import LivePlatform
from tests.contract.conftest import Cli

pytestmark = [pytest.mark.contract, pytest.mark.network, pytest.mark.timeout(600)]


def build(cli: Cli, remotebuild: Path, image: str = "contract/greet:1") -> None:
    """What `faas-cli up --remote-builder` does before it deploys, through OpenFaaS's own SDK."""
    tool = Cli(cli.platform, cli.folder, remotebuild)
    secret = str(cli.platform.payload_secret_file)
    tool.run(
        f"-remote-builder={cli.platform.url}",
        f"-payload-secret={secret}",
        "-name=greet",
        "-handler=./greet",
        "-lang=python3-asgi",
        f"-image={image}",
    )


@pytest.fixture
def greet(cli: Cli, remotebuild: Path) -> Cli:
    build(cli, remotebuild)
    cli.run("deploy")
    until(lambda: "Ready" in cli.out("describe", "greet"))
    return cli


def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so: faas-cli has no command that waits for this."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_wrong_password_is_refused_at_login(cli: Cli) -> None:
    done = cli.run("login", "--username", "admin", "--password", "wrong", check=False)
    assert done.returncode != 0
    assert "password is incorrect" in done.stdout + done.stderr


def test_function_is_built_deployed_and_invoked(greet: Cli) -> None:
    assert greet.out("invoke", "greet", text="world").strip().endswith("hello world")


def test_changed_handler_answers_after_the_next_deploy(greet: Cli, remotebuild: Path) -> None:
    handler = greet.folder / "greet" / "handler.py"
    handler.write_text(handler.read_text().replace('return f"{', 'return f"oh {'))
    build(greet, remotebuild)
    greet.run("deploy")
    until(lambda: "oh hello you" in greet.out("invoke", "greet", text="you"))


def test_up_deploys_what_the_builder_has_built(cli: Cli, remotebuild: Path) -> None:
    """The pinned release knows no remote builder: its `up` leaves building to the SDK's client."""
    build(cli, remotebuild, "contract/up:1")
    stack = cli.folder / "stack.yml"
    stack.write_text(
        stack.read_text()
        .replace("greet:1", "up:1")
        .replace("  greet:", "  up:\n    skip_build: true")
    )
    cli.run("up")
    until(lambda: "Ready" in cli.out("describe", "up"))
    assert cli.out("invoke", "up", text="world").strip().endswith("hello world")
    cli.run("remove", "up")


def test_list_and_describe_show_the_deployment(greet: Cli) -> None:
    assert "greet" in greet.out("list")
    described = greet.out("describe", "greet")
    assert "contract/greet:1" in described
    assert "team" in described
    assert "/function/greet" in described


def test_invocations_are_counted_without_prometheus(greet: Cli) -> None:
    greet.run("invoke", "greet", text="counted")
    line = next(row for row in greet.out("list").splitlines() if row.startswith("greet"))
    assert int(line.split()[1]) > 0


def test_async_invocation_is_accepted_and_run(greet: Cli) -> None:
    told = greet.out("invoke", "greet", "--async", text="async world")
    assert "submitted asynchronously" in told
    until(lambda: "greeting async world" in greet.out("logs", "greet", "--tail=false"))

    def newest() -> dict[str, Any]:
        listed: list[dict[str, Any]] = json.loads(
            greet.platform.sluice("calls", "list", "--json").stdout
        )
        return listed[0]

    until(lambda: newest()["state"] == "succeeded")  # what it printed comes before its answer
    call = newest()
    assert call["function"] == "greet.openfaas-fn"
    result = greet.platform.sluice("calls", "result", call["id"]).stdout
    assert result.strip().endswith("hello async world")
    shown = json.loads(greet.platform.sluice("calls", "show", call["id"]).stdout)
    assert (shown["method"], shown["path"]) == ("POST", "/")
    assert greet.platform.sluice("calls", "cancel", call["id"], check=False).returncode == 1
    greet.platform.sluice("calls", "replay", call["id"])
    until(lambda: greet.out("logs", "greet", "--tail=false").count("greeting async world") > 1)


def test_logs_show_what_the_handler_printed(greet: Cli) -> None:
    greet.run("invoke", "greet", text="logged")
    until(lambda: "greeting logged" in greet.out("logs", "greet", "--tail=false"))


def test_secret_is_created_listed_updated_and_removed(cli: Cli) -> None:
    cli.run("secret", "create", "key", "--from-literal", "one")
    assert "key" in cli.out("secret", "list")
    again = cli.run("secret", "create", "key", "--from-literal", "two", check=False)
    assert "already exists" in (again.stdout + again.stderr)
    cli.run("secret", "update", "key", "--from-literal", "two")
    cli.run("secret", "remove", "key")
    assert "key" not in cli.out("secret", "list")


def test_namespaces_are_listed(cli: Cli) -> None:
    assert "openfaas-fn" in cli.out("namespaces")


def test_store_style_image_runs_its_process_once_per_call(cli: Cli) -> None:
    (cli.folder / "stack.yml").unlink()
    cli.run("deploy", "--image", "functions/alpine", "--name", "shout", "--fprocess", "cat")
    until(lambda: "Ready" in cli.out("describe", "shout"))
    assert cli.out("invoke", "shout", text="as it is").strip().endswith("as it is")
    cli.run("remove", "shout")


def test_image_that_was_never_built_is_refused_with_the_way_to_build_it(cli: Cli) -> None:
    (cli.folder / "stack.yml").unlink()
    done = cli.run("deploy", "--image", "never/built", "--name", "lost", check=False)
    said = done.stdout + done.stderr
    assert "400" in said
    assert "--remote-builder" in said


def test_version_shows_the_provider(cli: Cli) -> None:
    assert "sluice" in cli.out("version", "--warn-update=false").lower()


def test_removed_function_is_gone(greet: Cli) -> None:
    greet.run("remove", "greet")
    until(lambda: "greet" not in greet.out("list"))
    done = greet.run("invoke", "greet", text="anyone", check=False)
    assert done.returncode != 0


def test_scale_by_rest_goes_to_zero_and_a_call_brings_it_back(
    greet: Cli, platform: LivePlatform
) -> None:
    with platform.client() as http:
        body = json.dumps({"serviceName": "greet", "replicas": 0})
        assert http.post("/system/scale-function/greet", content=body).status_code in {200, 202}
        until(lambda: http.get("/system/function/greet").json().get("availableReplicas", 0) == 0)
    assert "hello again" in greet.out("invoke", "greet", text="again")

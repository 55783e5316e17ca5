"""What each import from `sluice` brings into a process."""

import json
import subprocess
import sys

import pytest

import sluice

FUNCTION = {"sluice", "sluice.runtime", "sluice.runtime.python", "sluice.runtime.python.event"}


def modules_after(statement: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after `statement`."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "sluice"}


def test_the_package_alone_loads_nothing_of_ours() -> None:
    loaded = modules_after("import sluice")
    assert ours(loaded) == {"sluice"}
    assert not {"asyncio", "logging", "http.client"} & loaded


@pytest.mark.parametrize("name", ["Event", "Context", "BodyError", "SecretMissingError"])
def test_what_a_handler_is_given_brings_its_own_module_only(name: str) -> None:
    loaded = modules_after(f"from sluice import {name}")
    assert ours(loaded) == FUNCTION
    assert not {"asyncio", "prometheus_client", "http.client"} & loaded


def test_the_client_brings_the_standard_library_and_its_own_modules_only() -> None:
    loaded = modules_after("from sluice import Client")
    packages = {".".join(name.split(".")[:2]) for name in ours(loaded)}
    assert packages == {"sluice", "sluice.client", "sluice.settings", "sluice.transport"}
    before = modules_after("pass")
    foreign = {name.partition(".")[0] for name in loaded - before} - sys.stdlib_module_names
    assert foreign == {"sluice"}
    assert "asyncio" not in loaded


def test_batch_brings_no_client() -> None:
    loaded = ours(modules_after("from sluice import batch"))
    assert "sluice.runtime.python.batching" in loaded
    assert not {name for name in loaded if name.startswith(("sluice.client", "sluice.http1"))}


@pytest.mark.parametrize("name", sluice.__all__)
def test_every_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(sluice, name).__name__ == name
    assert name in dir(sluice)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sluice' has no attribute 'batches'"):
        _ = sluice.batches


def test_a_library_that_is_missing_is_named_with_the_extra_that_brings_it() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None\nfrom sluice import batch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    expected = "sluice.batch needs prometheus_client, which every function's process has; elsewhere"
    assert expected in done.stderr

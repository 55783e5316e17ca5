"""What a built wheel gives to an environment that holds nothing else."""

import email
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluice.version import installed_version
from testbed.platform import ROOT, LivePlatform, live_platform

PACKAGES = {"gateway", "pipelines", "registry", "service", "sluice", "triggers"}


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds the wheel and no other distribution, not even pip."""

    folder: Path

    def python(self, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-I", "-c", code, **environ)

    def run(
        self, program: str, *arguments: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree."""
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("empty") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    # Without an index: a dependency of the plain install would fail here.
    subprocess.run([*pip, "install", "--quiet", "--no-index", str(wheel)], check=True, timeout=120)
    return Environment(folder)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    with live_platform(tmp_path_factory.mktemp("live") / ".sluice") as running:
        yield running


def test_wheel_is_one_distribution_with_every_package_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(archive.read(metadata))
        entries = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert wheel.name.startswith("sluice_faas-")
    assert fields["Name"] == "sluice-faas"
    roots = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert roots == PACKAGES
    assert "sluice/py.typed" in names
    assert "sluice = sluice.cli.main:run" in entries
    plain = [one for one in fields.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert plain == []


def test_plain_install_calls_a_live_gateway(empty: Environment, platform: LivePlatform) -> None:
    code = (
        "from sluice import Client\n"
        "with Client() as client:\n"
        "    client.functions.deploy('cat', 'any', command='cat')\n"
        "    print(client.functions.wait_ready('cat').name)\n"
        "    print(client.calls.invoke('cat', b'through a real gateway').text)\n"
        "    client.functions.remove('cat')\n"
    )
    environ = {"OPENFAAS_URL": platform.url, "SLUICE_DATA_DIR": str(platform.data_dir)}
    done = empty.python(code, **environ)
    assert (done.returncode, done.stdout) == (0, "cat\nthrough a real gateway\n"), done.stderr


def test_plain_install_knows_its_version(empty: Environment) -> None:
    done = empty.python("from sluice.version import installed_version as v; print(v())")
    assert done.stdout.strip() == installed_version(), done.stderr


@pytest.mark.parametrize(
    ("statement", "module", "library"),
    [
        ("import sluice.ml.table", "sluice.ml.table", "numpy"),
        ("import sluice.ml.metrics", "sluice.ml.metrics", "numpy"),
        ("import sluice.ml.session", "sluice.ml.session", "numpy"),
        ("from sluice import batch", "sluice.batch", "prometheus_client"),
    ],
)
def test_missing_library_is_named_with_the_extra_that_brings_it(
    empty: Environment, statement: str, module: str, library: str
) -> None:
    done = empty.python(statement)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"{module} needs {library}" in last
    assert "pip install 'sluice-faas[" in last


def test_modules_of_sluice_ml_for_the_standard_library_need_nothing(empty: Environment) -> None:
    done = empty.python("import sluice.ml.registry, sluice.ml.responses, sluice.ml.fields")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [("sluice",), ("python", "-m", "sluice")])
def test_command_without_its_libraries_names_the_extra(
    empty: Environment, command: tuple[str, ...]
) -> None:
    done = empty.run(*command, "list")
    assert done.returncode == 1
    expected = "sluice: the command needs the module typer: pip install 'sluice-faas[embedded]'"
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1

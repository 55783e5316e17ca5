"""Bundles that were built for `runtime.batching` and `runtime.event` go on, with a warning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import sys
from pathlib import Path
from sluice import logs
from sluice.runtime.python.function import load_function
logs.configure()
function = load_function(Path(sys.argv[1]))
print(function.handler(None, None))
"""


def load(bundle: Path, source: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Load a handler as a replica does and print what it returns."""
    (bundle / "function").mkdir(exist_ok=True)
    (bundle / "function" / "handler.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-c", LOAD, str(bundle)],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_old_batching_is_the_new_one_and_says_once_what_to_write(tmp_path: Path) -> None:
    done = load(
        tmp_path,
        "from runtime.batching import BatchError, batch\n"
        "import runtime.batching\n"
        "import sluice\n"
        "def handle(event, context):\n"
        "    return batch is sluice.batch and BatchError is sluice.BatchError\n",
        PYTHONWARNINGS="always",
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    lines = [line for line in done.stderr.splitlines() if "runtime.batching" in line]
    logged = [line for line in lines if "level=warning" in line]
    assert len(logged) == 1
    assert "goes in Sluice 0.3.0: write `from sluice import batch`" in logged[0]
    warned = [line for line in lines if "DeprecationWarning" in line]
    assert len(warned) == 1
    assert "function/handler.py:1" in warned[0]


def test_old_event_is_the_new_one(tmp_path: Path) -> None:
    done = load(
        tmp_path,
        "from runtime.event import Context, Event\n"
        "import sluice\n"
        "def handle(event, context):\n"
        "    return (Event, Context) == (sluice.Event, sluice.Context)\n",
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "write `from sluice import Context, Event`" in done.stderr


def test_a_module_runtime_of_the_function_wins_and_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "runtime.py").write_text("batching = 'mine'\n")
    done = load(
        tmp_path,
        "from runtime import batching\ndef handle(event, context):\n    return batching\n",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


def test_a_package_runtime_of_the_function_is_not_mixed_with_the_old_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").touch()
    done = load(
        tmp_path,
        "try:\n    import runtime.batching\nexcept ImportError as error:\n    found = error\n"
        "def handle(event, context):\n    return found\n",
    )
    assert done.stdout == "No module named 'runtime.batching'\n", done.stderr


@pytest.mark.parametrize("name", ["runtime.replica", "runtime.zygote"])
def test_other_old_names_stay_unknown(tmp_path: Path, name: str) -> None:
    done = load(tmp_path, f"import {name}\ndef handle(event, context):\n    return 1\n")
    assert f"No module named '{name}'" in done.stderr


def test_a_handler_without_old_names_imports_none_and_is_warned_of_nothing(
    tmp_path: Path,
) -> None:
    done = load(
        tmp_path,
        "from sluice import Event\nimport sys\n"
        "def handle(event, context):\n    return 'runtime' in sys.modules\n",
        PYTHONWARNINGS="error",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")

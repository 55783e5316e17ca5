"""Rules for every test: on continuous integration a skip is a failure, whatever its reason.

A test that fails shows the ends of the logs of the programs that run for it.
"""

import getpass
import os
import shutil
import tempfile
from collections.abc import Generator
from typing import Any, Final

import pytest

from testbed.log_tails import tails

# What is left of a Unix socket's 107 bytes for the folder above those of workers and tests.
LONGEST_FOLDER: Final = 39


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have tests' folders where their paths are short enough for sockets, whatever TMPDIR says."""
    usual = f"{tempfile.gettempdir()}/pytest-of-{getpass.getuser()}/pytest-1000"
    if config.option.basetemp is None and len(usual) > LONGEST_FOLDER:
        folder = tempfile.mkdtemp(prefix="sluice-", dir="/tmp")
        config.option.basetemp = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


pytest_plugins = ["tests.databases"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if reporter and skipped and os.environ.get("CI") == "true" and not exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"{len(skipped)} skipped on CI: each counts as a failure", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, Any]:
    report = yield
    if report.failed:
        report.sections += [(f"end of {name}", text) for name, text in tails()]
    return report

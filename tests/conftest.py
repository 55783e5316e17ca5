"""Rules for every test: on continuous integration a skip is a failure, whatever its reason.

A test that fails shows the ends of the logs of the programs that run for it.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest

from tests.tails import tails

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

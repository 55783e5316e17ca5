"""What the documentation says is somewhere, is there."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest
import yaml

from testbed.platform import ROOT
from tests.docs.tables import DOCS, SERIES

PACKAGES = "gateway|pipelines|registry|service|sluice|triggers"
NAME = re.compile(rf"`((?:{PACKAGES})(?:\.[a-z0-9_]+)*)(?::([A-Za-z_.]+))?`")
LINK = re.compile(r"\]\(([^)#:]+\.md)?(?:#([^)]+))?\)")
FILE = re.compile(r"`((?:[a-z_0-9]+/)+[\w.-]+\.(?:py|yml|md|json|toml|xml|sh))`")
TEST = re.compile(r"`(test_[a-z_]+\.py)`")
# Its headings are those of the suites that the last run measured.
MEASURED = DOCS / "performance.md"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def map_entries() -> list[tuple[str, str]]:
    _, _, rest = (DOCS / "architecture.md").read_text().partition("## Where is it?\n")
    return NAME.findall(rest.partition("\n## ")[0])


def anchors(page: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(("module", "name"), map_entries())
def test_place_on_the_map_is_there(module: str, name: str) -> None:
    found = importlib.import_module(module)
    reduce(getattr, filter(None, name.split(".")), found)


def test_map_has_entries_of_every_package() -> None:
    assert {module.partition(".")[0] for module, _ in map_entries()} >= {
        "gateway",
        "registry",
        "service",
        "sluice",
        "triggers",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for file, anchor in LINK.findall(page.read_text()):
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), file
        assert not anchor or target == MEASURED or anchor in anchors(target.read_text()), anchor


# Decisions stay as they were written; docs/adr/names.md says what has another name since.
CURRENT = [page for page in PAGES if page.parent.name != "adr"]


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    ours = [path for path in FILE.findall(text) if (ROOT / path.partition("/")[0]).is_dir()]
    assert not [path for path in ours if not (ROOT / path).is_file()]
    assert not [name for name in TEST.findall(text) if not list(ROOT.glob(f"tests/**/{name}"))]


def test_alerts_ask_for_series_that_the_gateway_has() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    asked = "\n".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    named = set(re.findall(r"[a-z]+(?:_[a-z]+)*_total", asked))
    assert len(named) == len(rules["groups"][0]["rules"])
    assert named <= {row.name for row in SERIES}


def test_every_folder_with_code_is_in_the_readme() -> None:
    told = (ROOT / "README.md").read_text()
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert folders
    assert not [name for name in sorted(folders) if f"`{name}/`" not in told]

"""Which modules the distributions of an environment provide."""

from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.utils import canonicalize_name

# Top-level folders that some wheels ship by mistake; importing them runs nothing useful.
STRAY: Final = frozenset({"benchmarks", "docs", "examples", "scripts", "test", "tests", "tools"})


def import_names(site_packages: Path, wanted: Iterable[str]) -> tuple[str, ...]:
    """Modules of the wanted distributions (normalised names), sorted; those absent are left out.

    Of a namespace package the first regular package below it: `google.protobuf`, not `google`. Of a
    distribution with a module of its own name only that one: the others may need what is not
    installed, as duckdb's adbc_driver_duckdb does.
    """
    names = set(wanted)
    modules: set[str] = set()
    for distribution in distributions(path=[str(site_packages)]):
        if canonicalize_name(distribution.name) in names:
            found = _modules(distribution)
            namesake = canonicalize_name(distribution.name).replace("-", "_")
            modules |= {namesake} if namesake in found else found
    return tuple(sorted(modules))


def _modules(distribution: Distribution) -> set[str]:
    files = [PurePosixPath(str(path)) for path in distribution.files or ()]
    packages = {path.parent for path in files if path.parts[1:] and _stem(path.name) == "__init__"}
    # A folder without __init__.py above a package makes it a namespace, not a package.
    roots = {package for package in packages if not packages & set(package.parents)}
    candidates = [root.parts for root in roots]
    candidates += [
        (_stem(path.name),) for path in files if len(path.parts) == 1 and _stem(path.name)
    ]
    return {".".join(parts) for parts in candidates if _importable(parts)}


def _stem(name: str) -> str:
    """`six` of six.py and `_speedups` of _speedups.cpython-311-x86_64-linux-gnu.so, else empty."""
    return name.partition(".")[0] if name.endswith((".py", ".so")) else ""


def _importable(parts: tuple[str, ...]) -> bool:
    return all(
        part.isidentifier() and not part.startswith("_") and part not in STRAY for part in parts
    )

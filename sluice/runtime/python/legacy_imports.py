"""Handlers that were written for `runtime.batching` and `runtime.event`: goes in 0.3.0.

Both names moved under `sluice`. Bundles built before that import the old ones, so a finder at the
end of sys.meta_path makes these two modules where nothing else has: a function's own module
`runtime` is found before it, and a handler without the old names pays one entry in a list.
"""

import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

PACKAGE: Final = "runtime"
MODULES: Final = {
    "runtime.batching": "sluice.runtime.python.batching",
    "runtime.event": "sluice.runtime.python.event",
}
ADVICE: Final = {
    "runtime.batching": "from sluice import batch",
    "runtime.event": "from sluice import Context, Event",
}
REMOVED_IN: Final = "0.3.0"
log = logging.getLogger("runtime")


class LegacyImports:
    """Finds and loads the old names. Its methods are those of importlib's finders and loaders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for the package and its two modules, unless the package is the function's own."""
        is_package = name == PACKAGE
        if not is_package and not (name in MODULES and _is_ours(sys.modules.get(PACKAGE))):
            return None
        # A loader by its methods: importlib.abc is one more import of every replica.
        return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type] # see above

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill an old module with the names of the new one, and say once what to write instead."""
        name = module.__name__
        if name == PACKAGE:
            return
        source = importlib.import_module(MODULES[name])
        public = {key: value for key, value in vars(source).items() if not key.startswith("_")}
        vars(module).update(public)
        text = (
            f"the module {name} is deprecated and goes in Sluice {REMOVED_IN}:"
            f" write `{ADVICE[name]}`"
        )
        log.warning(text)
        warnings.warn(text, DeprecationWarning, stacklevel=2)


def install() -> None:
    """Make the old names importable from now on."""
    if not any(isinstance(finder, LegacyImports) for finder in sys.meta_path):
        sys.meta_path.append(LegacyImports())


def _is_ours(package: ModuleType | None) -> bool:
    spec = getattr(package, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), LegacyImports)

"""What a build ends in: the one step that differs from provider to provider.

The steps up to the lock are the same for all of them (gateway.building.builder). The embedded
provider's target makes bundles; a cluster's would push an OCI image with the lock's environment as
one layer and the context's folder as another.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.building.child import Report
from gateway.building.locking import Lock, Resolver
from gateway.building.package_cache import PackageCache


@dataclass(frozen=True, slots=True)
class BuildContext:
    """A context that was unpacked, laid out and inspected.

    image: its name with the tag. folder: in a workspace of the target, which may rename it away;
    holds package `function/` and the template's other files. form: how the handler is called, one
    of gateway.building.inspection.FORMS.
    """

    image: str
    folder: Path
    form: str


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a target made. digest: SHA-256 in hex, equal for equal input; details: for the log."""

    digest: str
    details: str


class BuildTarget(Protocol):
    """Makes what a provider runs of a context and its lock, under the image's name."""

    @property
    def resolver(self) -> Resolver:
        """Resolves requirements for the interpreter that the target's images have."""

    @property
    def cache(self) -> PackageCache:
        """The downloads that resolving and `build` share: held by a build, trimmed at its end."""

    def workspace(self) -> AbstractContextManager[Path]:
        """A new folder for one build; what is left of it when the block ends is removed.

        It lies where the target keeps its results, so that a rename can move files there. What a
        killed gateway leaves of it goes at the next start. Entering and leaving block.
        """

    async def build(self, context: BuildContext, lock: Lock, report: Report) -> BuildResult:
        """Make the image and keep it; durable on return, nothing is kept of a cancelled build.

        report: awaited with each line of progress. Raises SluiceError for what the developer can
        mend, OSError when the machine fails.
        """

"""Maps image names to bundles, and bundles to the folders of their code and environment.

The build target writes, the provider reads. A build is durable when `add` returns: the folder
is synced and renamed first, then the row is committed, so that a crash leaves a folder without a
row, which the next start removes, and never a row without its folder.
"""

import json
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from gateway import folders
from gateway.building.images import canonical_image
from gateway.building.package_cache import PackageCache
from gateway.providers.embedded.bundle_store import BundleRow, BundleStore, Image
from gateway.types.errors import InvalidRequestError

MARKER: Final = "environment.json"
MANIFEST: Final = "bundle.json"
LOCK_SUFFIX: Final = ".lock"
CACHE: Final = "uv-cache"
STAGED: Final = ".new-"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a build made of an image: code and the environment that runs it.

    folder: read-only, holds package `function/`. python: the environment's interpreter.
    preload: modules that a zygote imports. lock_key: names the environment. form: how the handler
    is called: `handle(event, context)`, `handle(req)`, `app`, or `handle` where only running the
    module tells its parameters.
    """

    image: str
    digest: str
    folder: Path
    python: Path
    preload: tuple[str, ...]
    lock_key: str
    form: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed: digests, lock keys, and the bytes of disk that this freed."""

    bundles: tuple[str, ...]
    environments: tuple[str, ...]
    freed_bytes: int


class Bundles:
    """The builds of one data folder. Every method may be called from any thread."""

    def __init__(self, data_dir: Path, history: int = 10) -> None:
        """Open the folder and remove what a killed build left; history: builds kept an image."""
        self.environments_dir = data_dir / "environments"
        self.bundles_dir = data_dir / "bundles"
        self.cache = PackageCache(data_dir / CACHE)
        for folder in (self.environments_dir, self.bundles_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self.store = BundleStore(data_dir / "bundles.sqlite", history)
        self._held: Counter[str] = Counter()
        # The event loop takes it too, so it is held for a rename at most.
        self._held_lock = threading.Lock()
        # One add or prune at a time.
        self._lock = threading.Lock()
        self._remove_half_made()

    def close(self) -> None:
        self.store.close()

    def resolve(self, image: str) -> Bundle | None:
        """The newest build of that name, None when it was not built here."""
        try:
            name = canonical_image(image)
        except InvalidRequestError:
            return None
        digest = self.store.newest(name)
        bundle = self.get(digest) if digest else None
        return replace(bundle, image=name) if bundle else None

    def get(self, digest: str) -> Bundle | None:
        """The bundle of that digest, None when its code or its environment is gone."""
        row = self.store.bundle(digest)
        if row is None or not (self.bundles_dir / digest / MANIFEST).is_file():
            return None
        return self._bundle(row) if self.has_environment(row.lock_key) else None

    def images(self) -> list[Image]:
        """Every image built here with its newest build, by name."""
        return self.store.images()

    def environment(self, lock_key: str) -> Path:
        """Where the virtual environment of a lock is, or is to be made."""
        return self.environments_dir / lock_key

    def has_environment(self, lock_key: str) -> bool:
        """Whether the environment is there and complete."""
        return (self.environment(lock_key) / MARKER).is_file()

    def environment_lock(self, lock_key: str) -> Path:
        """The file whose holder may make or remove that environment."""
        return self.environments_dir / (lock_key + LOCK_SUFFIX)

    @contextmanager
    def hold(self, lock_key: str) -> Iterator[None]:
        """Keep a prune from removing an environment that no bundle uses yet."""
        with self._held_lock:
            self._held[lock_key] += 1
        try:
            yield
        finally:
            with self._held_lock:
                self._held[lock_key] -= 1
                if not self._held[lock_key]:
                    del self._held[lock_key]

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A new folder beside the bundles; what is left of it when the block ends is removed."""
        folder = Path(mkdtemp(prefix=STAGED, dir=self.bundles_dir))
        try:
            with folders.claimed(folder):
                yield folder
        finally:
            folders.remove(folder)

    def add(self, staged: Path, row: BundleRow) -> Bundle:
        """Keep a folder made in `staging()` as the image's newest build; durable on return.

        A digest that is there already keeps its folder. Raises InvalidRequestError for an image
        name that breaks the rule.
        """
        row = replace(row, image=canonical_image(row.image))
        final = self.bundles_dir / row.digest
        with self._lock:
            if not (final / MANIFEST).is_file():
                (staged / MANIFEST).write_text(json.dumps(asdict(row), indent=1) + "\n")
                folders.make_read_only(staged)
                folders.publish(staged, final)
            self.store.record(row)
        return self._bundle(row)

    def prune(self, keep: Collection[str]) -> Pruned:
        """Remove what is neither the newest build of an image nor named in `keep` (digests).

        Environments that no remaining bundle uses go with it, the resolutions that led there, and
        the cache of downloaded libraries: what the remaining environments use of it they keep.
        """
        with self._lock:
            kept = set(keep) | {image.digest for image in self.images()}
            known = self.store.digests()
            gone = sorted(set(known) - kept)
            self.store.forget(gone)
            aside = [folders.set_aside(self.bundles_dir / digest) for digest in gone]
            locks = {lock_key for digest, lock_key in known.items() if digest in kept}
            unused = [key for key in self._environments() - locks if self._give_up(key, aside)]
            self.store.forget_resolutions(self._environments())
        # Without the lock: a large tree takes a while to remove.
        freed = sum(folders.remove(folder) for folder in aside) + self.cache.trim(0)
        return Pruned(tuple(gone), tuple(sorted(unused)), freed)

    def _bundle(self, row: BundleRow) -> Bundle:
        python = self.environment(row.lock_key) / "bin" / "python"
        folder = self.bundles_dir / row.digest
        return Bundle(row.image, row.digest, folder, python, row.preload, row.lock_key, row.form)

    def _environments(self) -> set[str]:
        """Lock keys of the environments that are there, complete or not."""
        paths = self.environments_dir.iterdir()
        return {path.name for path in paths if path.is_dir() and not path.name.startswith(".")}

    def _give_up(self, lock_key: str, aside: list[Path]) -> bool:
        """Set the environment aside unless a build holds it; returns whether it was."""
        with self._held_lock:
            if self._held[lock_key]:
                return False
            aside.append(folders.set_aside(self.environment(lock_key)))
            self.environment_lock(lock_key).unlink(missing_ok=True)
        return True

    def _remove_half_made(self) -> None:
        known = self.store.digests()
        for folder in self.bundles_dir.iterdir():
            if folder.is_dir() and folder.name not in known:
                with folders.claimed(folder) as ours:
                    if ours:
                        folders.remove(folder)
        for folder in self.environments_dir.glob(folders.ASIDE + "*"):
            folders.remove(folder)
        for lock_key in self._environments():
            lock = self.environment_lock(lock_key)
            if self.has_environment(lock_key):
                continue
            lock.touch()
            with folders.claimed(lock) as ours:
                if ours:
                    folders.remove(self.environment(lock_key))

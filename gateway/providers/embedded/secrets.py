"""Secrets of functions: one file each, which only this user can read, and each function's view."""

import os
import shutil
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Final

from gateway.folders import sync_folder
from gateway.providers.embedded.names import check_label, check_secret
from gateway.types.errors import InvalidRequestError, NotFoundError
from gateway.types.ids import FunctionId

MOST_BYTES: Final = 1 << 20  # Kubernetes' limit
STAGED: Final = ".new-"


class SecretFiles:
    """Secrets below `root`/NAMESPACE/NAME; every method blocks.

    views: holds a folder for each function, with hard links to its own secrets only. So a value is
    on the disk once, and a replica, which sees its function's folder, sees a new value at once.
    """

    def __init__(self, root: Path, views: Path) -> None:
        self._root, self._views = root, views
        self._lock = threading.Lock()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        views.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self, namespace: str) -> Sequence[str]:
        """The secrets of a namespace, sorted."""
        check_label("namespace", namespace)
        folder = self._root / namespace
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith(STAGED))

    def put(self, namespace: str, name: str, value: bytes) -> None:
        """Create or replace a secret; durable on return."""
        check_label("namespace", namespace)
        check_secret(name)
        if len(value) > MOST_BYTES:
            raise InvalidRequestError(
                f"secret {name}: expected at most {MOST_BYTES} bytes, got {len(value)}"
            )
        folder = self._root / namespace
        folder.mkdir(mode=0o700, exist_ok=True)
        staged = folder / f"{STAGED}{token_hex(8)}"
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            staged.rename(folder / name)
        finally:
            staged.unlink(missing_ok=True)
        sync_folder(folder)
        sync_folder(self._root)

    def delete(self, namespace: str, name: str) -> None:
        """Remove a secret. Raises NotFoundError."""
        check_label("namespace", namespace)
        check_secret(name)
        folder = self._root / namespace
        try:
            (folder / name).unlink()
        except FileNotFoundError as error:
            raise NotFoundError(f"secret {name} of namespace {namespace} not found") from error
        sync_folder(folder)

    def delete_namespace(self, namespace: str) -> None:
        """Remove every secret of a namespace."""
        check_label("namespace", namespace)
        shutil.rmtree(self._root / namespace, ignore_errors=True)

    def missing(self, namespace: str, names: Collection[str]) -> Sequence[str]:
        """Those of `names` that do not exist. Raises InvalidRequestError for an impossible name."""
        for name in names:
            check_secret(name)
        return sorted(set(names) - set(self.names(namespace)))

    def show(self, function: FunctionId, names: Collection[str]) -> Path:
        """The function's folder, made to hold exactly the secrets `names`. Raises NotFoundError."""
        view = self._views / f"{function.namespace}.{function.name}"
        with self._lock:
            view.mkdir(mode=0o700, exist_ok=True)
            for path in view.iterdir():
                if path.name not in names:
                    path.unlink()
            for name in names:
                self._link(self._root / function.namespace / name, view)
        return view

    def refresh(self, function: FunctionId, name: str) -> None:
        """Show the function a secret's new value, if it was shown the old one."""
        view = self._views / f"{function.namespace}.{function.name}"
        with self._lock:
            if (view / name).exists():
                self._link(self._root / function.namespace / name, view)

    def hide(self, function: FunctionId) -> None:
        """Remove the function's folder."""
        shutil.rmtree(self._views / f"{function.namespace}.{function.name}", ignore_errors=True)

    def _link(self, source: Path, view: Path) -> None:
        # link() does not replace an existing name; a rename does.
        staged = view / f"{STAGED}{token_hex(8)}"
        try:
            staged.hardlink_to(source)
        except FileNotFoundError as error:
            raise NotFoundError(f"secret {source.name} does not exist any more") from error
        staged.rename(view / source.name)
        staged.unlink(missing_ok=True)

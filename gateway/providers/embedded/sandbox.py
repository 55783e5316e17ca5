"""A replica's variables, and what its sandbox shows of this machine."""

import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.providers.embedded.bundles import Bundle
from gateway.providers.embedded.zygotes import Environment, import_time
from gateway.settings import GatewaySettings
from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from sluice.launch import (
    BUNDLE_VARIABLE,
    GATEWAY_URL_VARIABLE,
    LISTEN_FD,
    LISTEN_FD_VARIABLE,
    NAME_VARIABLE,
    NAMESPACE_VARIABLE,
    PRIVATE_TMP,
    PROCESS_VARIABLE,
    REPLICA_VARIABLE,
    STATUS_FD,
    STATUS_FD_VARIABLE,
    Sandbox,
)
from sluice.settings import own_host

# Passed on from the gateway's environment; a function sees nothing else of it.
PASSED_ON: Final = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Libraries that start their threads when they are loaded: a fork would lack them.
ONE_THREAD: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Sockets of the machine's services and of the user's session.
SERVICES: Final = "/run"
COVERED: Final = (PRIVATE_TMP, "/var/tmp", SERVICES, "/dev")  # noqa: S108 - replaced in a replica
# Never covered, even if a home folder is one of them or lies in one.
SYSTEM: Final = tuple(
    map(Path, ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"))
)
SHARED: Final = frozenset(map(Path, ("/", "/home", "/opt", "/tmp", "/var", "/var/tmp")))  # noqa: S108 - never written to
LINKS_FOLLOWED: Final = 10
MOST_VARIABLE_BYTES: Final = 512 << 10


@dataclass(frozen=True, slots=True)
class OwnFolders:
    """Folders of a replica: tmp is its own, its function's replicas share secrets and cache."""

    tmp: Path
    secrets: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What every replica needs to know of this machine.

    environ: the gateway's own. runtime: copy of the runtime's code. home: HOME of zygotes. hidden:
    folders that no replica may read.
    """

    settings: GatewaySettings
    environ: Mapping[str, str]
    runtime: Path
    home: Path
    hidden: tuple[str, ...]

    def base_variables(self) -> dict[str, str]:
        """Variables of every zygote and every replica."""
        passed = {name: self.environ[name] for name in PASSED_ON if name in self.environ}
        return {
            **passed,
            "PATH": self.environ.get("PATH") or DEFAULT_PATH,
            "HOME": PRIVATE_TMP,
            # onnxruntime sends telemetry at import otherwise.
            "ORT_DISABLE_TELEMETRY": "1",
        }

    def gateway_url(self) -> str:
        """The gateway's URL for functions."""
        if self.settings.function_url:
            return self.settings.function_url
        return f"http://{own_host(self.settings.host)}:{self.settings.port}"

    def environment(self, deployment: FunctionDeployment, bundle: Bundle | None) -> Environment:
        """The environment of the function's zygote. Without a bundle: the gateway's interpreter."""
        early = import_time(deployment.env_vars)
        path = os.pathsep.join(filter(None, [str(self.runtime), early.get("PYTHONPATH", "")]))
        one_thread = {name: early.get(name, "1") for name in ONE_THREAD}
        variables = {
            **self.base_variables(),
            **early,
            **one_thread,
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": path,
            "HOME": str(self.home),
        }
        if bundle is None:
            return Environment("process", Path(sys.executable), (), variables)
        return Environment(bundle.lock_key, bundle.python, bundle.preload, variables)

    def variables(
        self, deployment: FunctionDeployment, bundle: Bundle | None, replica: str
    ) -> dict[str, str]:
        """A replica's whole environment, except the variables of its own folders."""
        base = self.base_variables()
        if bundle is not None:
            base["PATH"] = f"{bundle.python.parent}{os.pathsep}{base['PATH']}"
            served = {BUNDLE_VARIABLE: str(bundle.folder)}
        else:
            served = {PROCESS_VARIABLE: deployment.env_process}
        return {
            **base,
            "SLUICE_LOG_FORMAT": self.settings.log_format,
            **deployment.env_vars,
            **served,
            LISTEN_FD_VARIABLE: str(LISTEN_FD),
            STATUS_FD_VARIABLE: str(STATUS_FD),
            REPLICA_VARIABLE: replica,
            GATEWAY_URL_VARIABLE: self.gateway_url(),
            NAME_VARIABLE: deployment.id.name,
            NAMESPACE_VARIABLE: deployment.id.namespace,
        }

    def sandbox(
        self, deployment: FunctionDeployment, bundle: Bundle | None, own: OwnFolders
    ) -> Sandbox:
        """What a replica sees of this machine."""
        shown = {str(self.runtime), *_resolver_files()}
        if bundle is None:
            shown |= {*_prefixes(Path(sys.executable)), *_command_files(deployment, self.environ)}
        else:
            shown |= {str(bundle.folder), *_prefixes(bundle.python)}
        return Sandbox(
            hide=self.hidden,
            show=tuple(sorted(filter(self._covers, shown | set(map(os.path.realpath, shown))))),
            tmp=str(own.tmp),
            secrets=str(own.secrets),
            cache=str(own.cache),
            tmp_bytes=self.settings.tmp_bytes,
            processes=self.settings.process_limit,
        )

    def _covers(self, path: str) -> bool:
        """Whether `path` is covered and can be shown without showing a hidden folder."""
        shown = Path(path)
        if any(Path(hidden).is_relative_to(shown) for hidden in self.hidden):
            return False
        return any(shown.is_relative_to(folder) for folder in (*self.hidden, *COVERED))


def hidden_folders(settings: GatewaySettings, sockets: Path, home: str) -> tuple[str, ...]:
    """Folders that no replica may read: data, credentials, the user's home, service sockets."""
    account = [pwd.getpwuid(os.geteuid()).pw_dir] if _has_account() else []
    homes = filter(_may_be_hidden, map(_real, filter(None, [home, *account])))
    own = map(_real, map(str, (settings.data_dir, settings.secrets_dir, sockets, SERVICES)))
    return tuple(sorted(str(folder) for folder in {*own, *homes} if folder.is_dir()))


def _may_be_hidden(home: Path) -> bool:
    """Whether it is a user's home, not a system folder or the gateway's installation."""
    kept = (*SYSTEM, *map(Path, _prefixes(Path(sys.executable))))
    return home not in SHARED and not any(home.is_relative_to(folder) for folder in kept)


def _real(path: str) -> Path:
    return Path(os.path.realpath(path))


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise InvalidRequestError unless the variables can be a process's environment."""
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name:
            raise InvalidRequestError(f"envVars {name[:80]!r}: expected a name without '=' or NUL")
        if "\0" in value:
            raise InvalidRequestError(f"envVars {name[:80]}: expected a value without NUL")
    size = sum(len(name) + len(value) for name, value in variables.items())
    if size > MOST_VARIABLE_BYTES:
        raise InvalidRequestError(
            f"envVars: expected at most {MOST_VARIABLE_BYTES} characters together, got {size}"
        )


def find_command(env_process: str, environ: Mapping[str, str]) -> str | None:
    """The program that env_process runs; None when it does not exist."""
    words = env_process.split()
    return shutil.which(words[0], path=environ.get("PATH") or DEFAULT_PATH) if words else None


def threads(variables: Mapping[str, str], cores: float | None) -> int:
    """How many threads numeric libraries may use: as set, else one for each core of the limit."""
    for name in THREADS:
        if variables.get(name, "").isdecimal() and int(variables[name]) > 0:
            return int(variables[name])
    machine = len(os.sched_getaffinity(0))
    return machine if cores is None else max(1, min(machine, round(cores + 0.49)))


def _has_account() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def _prefixes(python: Path) -> Iterator[str]:
    """Installations that an interpreter belongs to: its environment and those it links to."""
    for _ in range(LINKS_FOLLOWED):
        yield str(python.parent.parent)
        if not python.is_symlink():
            break
        python = Path(os.path.normpath(python.parent / python.readlink()))
    yield str(Path(os.path.realpath(python)).parent.parent)


def _command_files(deployment: FunctionDeployment, environ: Mapping[str, str]) -> Sequence[str]:
    command = find_command(deployment.env_process, environ)
    return [command] if command else []


def _resolver_files() -> Sequence[str]:
    """The file that /etc/resolv.conf links to, which may lie in a covered folder."""
    path = os.path.realpath("/etc/resolv.conf")
    return [path] if Path(path).is_file() else []

"""What a replica is started with: its variables, and what it sees of the machine."""

import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.building.bundles import Bundle
from gateway.providers.embedded.zygotes import Environment, import_time
from gateway.settings import GatewaySettings
from gateway.types.errors import InvalidRequestError
from gateway.types.function import FunctionDeployment
from sluice.settings import own_host

# Passed on from the gateway's own environment; nothing else of it reaches a function.
PASSED_ON: Final = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# OpenBLAS starts its threads when it is loaded, and a fork carries none along.
ONE_THREAD: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
PRIVATE_CACHE: Final = "/tmp/.cache"  # noqa: S108 - likewise
PRIVATE_TMP: Final = "/tmp"  # noqa: S108 - a folder of the replica's own is mounted there
# Sockets of the machine's services and of the user's session.
SERVICES: Final = "/run"
COVERED: Final = (PRIVATE_TMP, "/var/tmp", SERVICES, "/dev")  # noqa: S108 - replaced in a replica
# Never covered, though somebody's home folder may be one of them or below one.
SYSTEM: Final = tuple(
    map(Path, ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"))
)
SHARED: Final = frozenset(map(Path, ("/", "/home", "/opt", "/tmp", "/var", "/var/tmp")))  # noqa: S108 - never written to
LINKS_FOLLOWED: Final = 10
MOST_VARIABLE_BYTES: Final = 512 << 10


@dataclass(frozen=True, slots=True)
class OwnFolders:
    """What a replica has to itself: tmp; and shares with its function's: secrets, cache."""

    tmp: Path
    secrets: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What of this machine matters to every replica.

    environ: the gateway's own. runtime: copy of the runtime's code. home: what zygotes take for
    theirs. hidden: folders that no replica may read.
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
            # onnxruntime reports home at import unless told not to.
            "ORT_DISABLE_TELEMETRY": "1",
        }

    def gateway_url(self) -> str:
        """The gateway as functions reach it."""
        if self.settings.function_url:
            return self.settings.function_url
        return f"http://{own_host(self.settings.host)}:{self.settings.port}"

    def environment(self, deployment: FunctionDeployment, bundle: Bundle | None) -> Environment:
        """What the function's replicas are forked from. Without a bundle: our own interpreter."""
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
        """A replica's whole environment, but for where its secrets are."""
        base = self.base_variables()
        if bundle is not None:
            base["PATH"] = f"{bundle.python.parent}{os.pathsep}{base['PATH']}"
        kind = {"SLUICE_BUNDLE": str(bundle.folder)} if bundle else {}
        process = {} if bundle else {"SLUICE_FPROCESS": deployment.env_process}
        return {
            **base,
            "SLUICE_LOG_FORMAT": self.settings.log_format,
            **deployment.env_vars,
            **kind,
            **process,
            "SLUICE_LISTEN_FD": "3",
            "SLUICE_STATUS_FD": "4",
            "SLUICE_REPLICA": replica,
            "SLUICE_GATEWAY_URL": self.gateway_url(),
            "OPENFAAS_NAME": deployment.id.name,
            "OPENFAAS_NAMESPACE": deployment.id.namespace,
        }

    def sandbox(
        self, deployment: FunctionDeployment, bundle: Bundle | None, own: OwnFolders
    ) -> dict[str, Any]:
        """The document of `sluice.runtime.launching.sandbox.Sandbox` for a replica."""
        shown = {str(self.runtime), *_resolver_files()}
        if bundle is None:
            shown |= {*_prefixes(Path(sys.executable)), *_command_files(deployment, self.environ)}
        else:
            shown |= {str(bundle.folder), *_prefixes(bundle.python)}
        return {
            "hide": list(self.hidden),
            "show": sorted(filter(self._covers, shown | set(map(os.path.realpath, shown)))),
            "tmp": str(own.tmp),
            "secrets": str(own.secrets),
            "cache": str(own.cache),
            "tmp_bytes": self.settings.tmp_bytes,
            "processes": self.settings.process_limit,
        }

    def _covers(self, path: str) -> bool:
        """Whether `path` would be lost, and showing it would not show what is hidden."""
        place = Path(path)
        if any(Path(hidden).is_relative_to(place) for hidden in self.hidden):
            return False
        return any(place.is_relative_to(folder) for folder in (*self.hidden, *COVERED))


def hidden_folders(settings: GatewaySettings, sockets: Path, home: str) -> tuple[str, ...]:
    """What no replica may read: the data folder, credentials, the user's home, service sockets."""
    account = [pwd.getpwuid(os.geteuid()).pw_dir] if _has_account() else []
    homes = filter(_may_be_hidden, map(_real, filter(None, [home, *account])))
    own = map(_real, map(str, (settings.data_dir, settings.secrets_dir, sockets, SERVICES)))
    return tuple(sorted(str(folder) for folder in {*own, *homes} if folder.is_dir()))


def _may_be_hidden(home: Path) -> bool:
    """Whether a home folder is one, and not the system's or an installation of ours."""
    kept = (*SYSTEM, *map(Path, _prefixes(Path(sys.executable))))
    return home not in SHARED and not any(home.is_relative_to(folder) for folder in kept)


def _real(path: str) -> Path:
    return Path(os.path.realpath(path))


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise InvalidRequestError for what cannot be a process's environment."""
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
    """The program that env_process runs, None when there is no such one."""
    words = env_process.split()
    return shutil.which(words[0], path=environ.get("PATH") or DEFAULT_PATH) if words else None


def threads(variables: Mapping[str, str], cores: float | None) -> int:
    """How many threads numeric libraries may use: as asked for, else one a core of the limit."""
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
    """Installations that an interpreter lives in: its environment's and the one below it."""
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
    """The file that names are looked up with, where it is a service's."""
    path = os.path.realpath("/etc/resolv.conf")
    return [path] if Path(path).is_file() else []

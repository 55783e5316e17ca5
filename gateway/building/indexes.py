"""Translates pip's settings of package indexes for uv, which does not read them.

Everything is passed in the environment, never as arguments, which any process can read: an index
URL may hold a password. The operator's own UV_... variables win over pip's settings.
"""

import os
import re
import sys
from collections.abc import Mapping
from configparser import Error as ConfigError
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Variables that uv or the programs it starts need; nothing else of the gateway's is passed on.
PASSED: Final = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TMPDIR|XDG_\w+|NETRC|SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT"
    r"|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy"
    r"|UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|INDEX_STRATEGY"
    r"|INDEX_\w+_(?:USERNAME|PASSWORD)|KEYRING_PROVIDER|INSECURE_HOST|HTTP_TIMEOUT|HTTP_RETRIES"
    r"|SYSTEM_CERTS|NATIVE_TLS|OFFLINE|EXCLUDE_NEWER|CONFIG_FILE|NO_CONFIG|LINK_MODE"
    r"|CONCURRENT_\w+|CREDENTIALS_DIR|TORCH_BACKEND)"
)
# Other names that pip accepts for an option.
ALIASES: Final = {"default-timeout": "timeout", "pypi-url": "index-url", "index": "index-url"}
USER_INFO: Final = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Indexes:
    """How uv reaches the indexes. environ: of uv's process; no_index: use find-links alone."""

    environ: Mapping[str, str]
    no_index: bool

    @property
    def identity(self) -> str:
        """Text that differs where a resolution may differ; it may hold credentials."""
        names = [name for name in self.environ if name.startswith("UV_")]
        return repr([(name, self.environ[name]) for name in sorted(names)] + [self.no_index])


def read_indexes(
    environ: Mapping[str, str], etc: Path = Path("/etc"), prefix: Path = Path(sys.prefix)
) -> Indexes:
    """The indexes that pip's files and `environ` (the gateway's) configure, as uv's variables.

    etc, prefix: where pip keeps the machine's settings and those of this Python.
    """
    pip = _pip_options(environ, _pip_files(environ, etc, prefix))
    own = {name: value for name, value in environ.items() if PASSED.fullmatch(name) and value}
    translated = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(_find_links(pip.get("find-links", ""))),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": _whole_seconds(pip.get("timeout", "")),
        "SSL_CLIENT_CERT": pip.get("client-cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    if "UV_INDEX_URL" in own:
        translated["UV_DEFAULT_INDEX"] = ""
    if "UV_EXTRA_INDEX_URL" in own:
        translated["UV_INDEX"] = ""
    joined = {name: value for name, value in translated.items() if value} | own
    return Indexes(joined | _certificates(pip.get("cert", "")), _is_true(pip.get("no-index", "")))


def masked(text: str) -> str:
    """`text` without the user names and passwords of the URLs in it."""
    return USER_INFO.sub("****@", text)


def _pip_options(environ: Mapping[str, str], files: list[Path]) -> dict[str, str]:
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, "env": {}}
    for path in files:
        for section, options in _read_file(path).items():
            if section in sections:
                sections[section].update(options)
    for name, value in environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            sections["env"][_option(name.removeprefix("PIP_"))] = value
    return sections["global"] | sections["install"] | sections["env"]


def _pip_files(environ: Mapping[str, str], etc: Path, prefix: Path) -> list[Path]:
    """Pip's files, a later one over an earlier; source: pip, User Guide, Configuration."""
    named = environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    roots = (environ.get("XDG_CONFIG_DIRS") or str(etc / "xdg")).split(os.pathsep)
    files = [Path(root) / "pip" / "pip.conf" for root in reversed(roots)]
    files += [etc / "pip.conf", home / ".pip" / "pip.conf"]
    files += [Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"]
    files += [prefix / "pip.conf"]
    return files + ([Path(named)] if named else [])


def _read_file(path: Path) -> dict[str, dict[str, str]]:
    parser = RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (ConfigError, OSError, UnicodeDecodeError):
        # pip itself refuses to run with such a file, so the operator knows.
        return {}
    return {
        section: {_option(name): value for name, value in parser.items(section)}
        for section in parser.sections()
    }


def _option(name: str) -> str:
    plain = name.strip().lower().replace("_", "-").lstrip("-")
    return ALIASES.get(plain, plain)


def _find_links(text: str) -> list[str]:
    """Locations that exist: uv fails on a folder that is missing, pip does not."""
    locations = []
    for location in text.split():
        path = Path(location.removeprefix("file://")).expanduser()
        if "://" in location.removeprefix("file://"):
            locations.append(location)
        elif path.exists():
            locations.append(str(path.absolute()))
    return locations


def _certificates(cert: str) -> dict[str, str]:
    path = Path(cert).expanduser()
    if not cert or not path.exists():
        return {}
    return {"SSL_CERT_DIR" if path.is_dir() else "SSL_CERT_FILE": str(path.absolute())}


def _whole_seconds(text: str) -> str:
    try:
        return str(max(1, round(float(text))))
    except ValueError:
        return ""


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on", "y", "t"}

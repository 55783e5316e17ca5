"""Settings as tables: one dataclass field a knob, read once from an environment that is passed in.

Each package declares its own frozen dataclass with `setting(...)` fields and reads it with `load`.
Nothing else reads the environment, so the same table serves code, documentation and tests.
"""

from sluice.settings.hosts import own_host
from sluice.settings.table import Row, SettingError, load, rows, setting
from sluice.settings.values import (
    parse_count,
    parse_duration,
    parse_flag,
    parse_path,
    parse_port,
    parse_positive_count,
    parse_positive_duration,
    parse_positive_size,
    parse_size,
    parse_text,
)

__all__ = [
    "Row",
    "SettingError",
    "load",
    "own_host",
    "parse_count",
    "parse_duration",
    "parse_flag",
    "parse_path",
    "parse_port",
    "parse_positive_count",
    "parse_positive_duration",
    "parse_positive_size",
    "parse_size",
    "parse_text",
    "rows",
    "setting",
]

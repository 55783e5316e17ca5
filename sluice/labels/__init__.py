"""Every label and annotation that a program of the platform reads from a function, or adds to it.

Each is declared once, in `functions` or `events`: name, kind, type with its bounds, default,
meaning, and who reads it. The gateway and the triggers parse with `Label.read`; the tables in docs/
are made from the same rows. The standard library and `sluice.settings` are all it imports.
"""

from sluice.labels.label import Label, LabelError, ValueType, check_known

__all__ = ["Label", "LabelError", "ValueType", "check_known"]

"""`python -m sluice`, the same as the `sluice` command."""

from sluice.main import run

run()

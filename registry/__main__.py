"""`python -m registry`: serve the registry on its Unix socket until SIGTERM."""

import sys

from registry.app import serve
from registry.settings import read_settings
from service.process import run

if __name__ == "__main__":
    sys.exit(run(read_settings, serve))

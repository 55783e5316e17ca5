"""`python -m triggers`: serve the event sources and their API until SIGTERM."""

import sys

from service.process import run
from triggers.app import serve
from triggers.settings import TriggersSettings

if __name__ == "__main__":
    sys.exit(run(TriggersSettings.load, serve))

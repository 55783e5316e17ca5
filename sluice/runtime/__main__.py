"""`python -m sluice.runtime`: a cold start of one replica."""

import os
import sys

from sluice.runtime.main import serve

if __name__ == "__main__":
    sys.exit(serve(os.environ))

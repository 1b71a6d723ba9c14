"""``python -m repl`` is ``sabot``."""

import sys

from repl.app import main

if __name__ == "__main__":
    sys.exit(main())

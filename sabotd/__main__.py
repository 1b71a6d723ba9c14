"""``python -m sabotd``."""

import sys

from sabotd.cli import main

sys.exit(main())

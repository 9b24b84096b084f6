"""`python -m fieldwise`."""

import sys

from fieldwise.cli import main

sys.exit(main())

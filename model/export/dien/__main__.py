"""`python3 -m dien`: the command without an installation."""

import sys

from dien.cli import main

sys.exit(main())

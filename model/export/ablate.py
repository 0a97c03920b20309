#!/usr/bin/env python3
"""`python3 ablate.py` stands for `dien ablate`. It will go with version 0.2."""

import sys

from dien.cli import main

sys.exit(main(["ablate", *sys.argv[1:]]))

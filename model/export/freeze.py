#!/usr/bin/env python3
"""`python3 freeze.py` stands for `dien freeze`. It will go with version 0.2."""

import sys

from dien.cli import main

sys.exit(main(["freeze", *sys.argv[1:]]))

#!/usr/bin/env python3
"""`python3 evaluate.py` stands for `dien evaluate`. It will go with version 0.2."""

import sys

from dien.cli import main

sys.exit(main(["evaluate", *sys.argv[1:]]))

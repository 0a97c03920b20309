#!/usr/bin/env python3
"""`python3 verify.py` stands for `dien verify`. It will go with version 0.2."""

import sys

from dien.cli import main

sys.exit(main(["verify", *sys.argv[1:]]))

#!/usr/bin/env python3
"""`python3 train.py` stands for `dien train`. It will go with version 0.2."""

import sys

from dien.cli import main

sys.exit(main(["train", *sys.argv[1:]]))

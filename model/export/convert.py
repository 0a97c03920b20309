#!/usr/bin/env python3
"""`python3 convert.py` stands for `dien convert`. It will go with version 0.2."""

import sys

from dien.cli import main

sys.exit(main(["convert", *sys.argv[1:]]))

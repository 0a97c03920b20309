"""Make N random model directories, OUTPUT/random-00 and on, in one process (PyTorch is slow to load).

    python3 tests/support/random_models.py --count 30 --output build/models
"""

import argparse
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "export"))

import random_model  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    for seed in range(options.count):
        random_model.model_directory.save(options.output / f"random-{seed:02}", *random_model.make(seed))


if __name__ == "__main__":
    main()

"""Pack model directories as inputs of fuzz_model: `python3 tests/fuzz/seed_models.py build/models/random-0*`.

Writes tests/fuzz/model/valid-NAME: config.json without its white space, a NUL byte, model.safetensors. Small models make
good seeds: a few that together use every option are worth more than many.
"""

import json
import pathlib
import sys

for name in sys.argv[1:]:
    directory = pathlib.Path(name)
    config = json.dumps(json.loads((directory / "config.json").read_text()), separators=(",", ":"))
    tensors = (directory / "model.safetensors").read_bytes()
    output = pathlib.Path(__file__).parent / "model" / f"valid-{directory.name}"
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(config.encode() + b"\0" + tensors)

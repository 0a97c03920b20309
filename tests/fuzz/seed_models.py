"""Pack model directories as inputs of fuzz_model: `python3 tests/fuzz/seed_models.py build/models/random-0*`.

Writes tests/fuzz/model/NAME.bin: the length of config.json in four bytes, config.json, model.safetensors.
"""

import pathlib
import struct
import sys

for name in sys.argv[1:]:
    directory = pathlib.Path(name)
    config = (directory / "config.json").read_bytes()
    tensors = (directory / "model.safetensors").read_bytes()
    output = pathlib.Path(__file__).parent / "model" / f"{directory.name}.bin"
    output.parent.mkdir(exist_ok=True)
    output.write_bytes(struct.pack("<I", len(config)) + config + tensors)

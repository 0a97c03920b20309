"""GRU cells by the names of TensorFlow 1's variables: gates and candidate, each a kernel and a bias."""
from __future__ import annotations

import re

import numpy as np

from dien.sources.fold import tf1_cell
from dien.sources.source import ConversionError, Source

SECOND_IS_MISSING = (
    "tensor gru2/{name} is missing: the second recurrence's weights are not in this file. Keras files of DeepCTR's AGRU and "
    "AUGRU never hold them, because Keras does not see the variables of these cells. They are in the session that trained the "
    "model: save it there with tf.train.Saver().save(session, \"ckpt\") and convert --weights ckpt. Without them the model "
    "cannot be scored")


def part(source: Source, scope: str, name: str) -> str:
    """A variable of the cell under `scope`; the version decides whether its name includes the cell's."""
    found = [each for each in source.left if re.fullmatch(rf"(.*/)?{scope}/(rnn/)?(\w*cell\w*/)?{name}", each)]
    if not found and scope == "gru2":
        raise ConversionError(SECOND_IS_MISSING.format(name=name))
    if len(found) != 1:
        raise ConversionError(f"tensor {scope}/{name}: {', '.join(found)} where one was expected" if found
                              else f"tensor {scope}/{name} is missing")
    return found[0]


def cell(source: Source, scope: str, inputs: int, units: int) -> dict[str, np.ndarray]:
    """The cell under `scope` in our form."""
    shapes = {"gates/kernel": (inputs + units, 2 * units), "gates/bias": (2 * units,),
              "candidate/kernel": (inputs + units, units), "candidate/bias": (units,)}
    return tf1_cell(*(source.take(part(source, scope, name), shape) for name, shape in shapes.items()), inputs=inputs)

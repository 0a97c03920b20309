"""One module for each framework that `dien convert` reads: architecture and weights in, config and tensors out.

Each module has `convert(architecture, source, options) -> (config, tensors)`. `options` holds the choices of the command
line: the keys of NO_OPTIONS in convert.py. The function takes every tensor that the network needs from the source, by name
and shape. A tensor that is left over is an error, so that none is ignored in silence.
"""

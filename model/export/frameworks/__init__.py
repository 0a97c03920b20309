"""One module for each framework that convert.py reads: architecture and weights in, config and tensors out.

A module has `convert(architecture, source) -> (config, tensors)`. It takes every tensor that the network needs from the
source by name and shape; what is then left over is an error, so nothing is ignored in silence.
"""

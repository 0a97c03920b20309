"""DIEN offline: train, convert, freeze, inspect and verify models for the scoring server; its client; its request log.

The rooms, each of which imports only those before it: `client` and `request_log` (both without PyTorch), `model` (the
network and the model directory), `data` (clicks to examples), `training`, `sources` (other frameworks' checkpoints),
`serving` (a running server).
"""

__version__ = "0.1.0"

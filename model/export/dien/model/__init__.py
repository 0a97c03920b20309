"""The network, and the model directory that the server reads."""

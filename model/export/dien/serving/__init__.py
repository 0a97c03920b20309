"""A running server, seen from its client."""

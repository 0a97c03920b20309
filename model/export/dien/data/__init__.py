"""Clicks, and the examples that training takes from them."""

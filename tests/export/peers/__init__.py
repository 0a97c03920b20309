"""The frameworks' own forward passes, written again from their descriptions: what a converter is compared with.

Each module has `case(seed)`: an architecture file, a state dict, options for the converter, and requests with scores. They
share no arithmetic with model/export: they keep the frameworks' layouts, gate orders, padding and masks.
"""

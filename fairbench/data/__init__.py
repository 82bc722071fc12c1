"""Data sets: preparation without surprises, images resident on the device, one stream for all methods.

`manifest` is light (no torch, no numpy) and serves planning; the other modules are imported where needed.
"""

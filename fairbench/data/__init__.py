"""Data sets: preparation, images in device memory, and the stream of batches that all methods share.

`manifest` imports neither torch nor numpy, for planning; the other modules are imported where needed.
"""

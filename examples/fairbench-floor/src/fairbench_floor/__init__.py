"""FLOOR, a method for fairbench."""

"""Evaluation: a model, test images and an attack give one row per image."""

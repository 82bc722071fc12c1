"""A model, test images and an attack make one row per example."""

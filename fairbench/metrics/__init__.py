"""Metrics computed from correctness, as pure functions on numpy arrays; accuracies are in [0, 1]."""

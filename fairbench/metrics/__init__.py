"""Class-wise reductions of correctness arrays: pure functions on numpy arrays, accuracies in [0, 1]."""

"""The contract of a method, per-sample losses and class-wise computations."""

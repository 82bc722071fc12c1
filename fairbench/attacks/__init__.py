"""Perturbations inside a budget: the threat model, PGD and adapters for foreign attacks."""

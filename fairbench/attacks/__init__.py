"""Attacks inside a budget: PGD, the searches of AutoAttack and A3, and an adapter of a reference package."""

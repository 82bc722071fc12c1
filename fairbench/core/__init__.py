"""What every room may use: errors, identities, seeds, atomic files and claims. No torch."""

"""The lowest layer: errors, identities, seeds, atomic files, leases, signals. No torch."""

"""What a method is made of: the contract, per-sample losses and shared class mathematics."""

"""fairbench: the benchmark suite for fair adversarial training."""

"""One training loop for every method: schedule, step, class statistics, checkpoints, exact resume."""

"""From what a user selects to frozen cells: what is done, stale, missing, and what it costs. No torch."""

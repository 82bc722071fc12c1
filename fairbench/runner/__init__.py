"""Start cells and keep their folders true. Only `worker.py` opens the heavy rooms."""

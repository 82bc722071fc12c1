"""fairbench: the benchmark suite for fair adversarial training.

import fairbench
frame = fairbench.load_records("results")    # one row per run, checkpoint, attack and class
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairbench.records.frame import load_records

__all__ = ["load_records"]


def __getattr__(name: str) -> Any:
    if name == "load_records":  # imported when used: pandas takes half a second
        from fairbench.records.frame import load_records

        return load_records
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Run folders that were copied or merged: each cell once."""

from collections import defaultdict
from collections.abc import Sequence

from fairbench.records.read import Record


def distinct(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records with each cell once, and those of them of which a copy has other outcomes.

    Of several copies of a cell a done one is kept, of those the one finished last. So folders
    that were copied or merged count no seed twice.
    """
    copies: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        copies[(record.entry, record.seed)].append(record)
    kept, disputed = [], []
    for same in copies.values():
        same.sort(key=lambda r: (r.state == "done", r.finished, str(r.folder)))
        kept.append(same[-1])
        if len(same) == 1:
            continue
        done = [record for record in same if record.state == "done"]
        contents = {frozenset((e.attack, e.id, e.epoch, e.digest) for e in r.evaluations) for r in done}
        if len(contents) > 1:
            disputed.append(same[-1])
    return sorted(kept, key=lambda r: (r.folder.name, str(r.folder))), disputed

"""Which records of a results folder a table, a figure or a page is made from."""

from collections.abc import Collection, Sequence
from pathlib import Path

from fairbench.core.errors import FairbenchError, UnknownNameError
from fairbench.metrics.rho import BASELINE
from fairbench.records.read import Record


class NoRunsError(FairbenchError):
    """No run in the results folder fits the selection."""


def choose_records(
    records: Sequence[Record],
    results: Path,
    *,
    methods: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    protocol: str | None = None,
    baseline: str = BASELINE,
    ids: Collection[str] | None = None,
) -> list[Record]:
    """The records of these methods, with the baseline's, of these data sets and of this protocol.

    None chooses all. ids: only cells with these ids. Runs that only supply the weights that others start from
    are left out. Raises UnknownNameError for a name that no record has, NoRunsError when nothing fits.
    """
    known = [r for r in records if not r.preparation and (ids is None or r.id in ids)]
    hint = "see: fairbench status; start with: fairbench run"
    if not known:
        raise NoRunsError(f"there are no runs in {results}.", hint=hint)
    check_names("method", "--methods", methods or (), known)
    check_names("dataset", "--datasets", datasets or (), known)
    check_names("protocol", "--protocol", () if protocol is None else (protocol,), known)
    check_names("method", "--baseline", () if baseline == BASELINE else (baseline,), known)
    chosen = [
        record
        for record in known
        if (methods is None or record.method in (*methods, baseline))
        and (datasets is None or record.dataset in datasets)
        and protocol in (None, record.protocol)
    ]
    if not chosen:
        raise NoRunsError(f"no runs in {results} fit the options.", hint=hint)
    return chosen


def check_names(kind: str, option: str, names: Sequence[str], records: Sequence[Record]) -> None:
    """Raise UnknownNameError for a name of `option` that no record has as its `kind`."""
    known = {getattr(record, kind) for record in records}
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known, asked_by=f"{option} {','.join(names)}")

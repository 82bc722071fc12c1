"""Which records of a results folder a table, a figure or a page is made from."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from fairbench.core.errors import FairbenchError, UnknownNameError, suggest
from fairbench.metrics.rho import BASELINE
from fairbench.records.read import Record
from fairbench.registry import load_registry
from fairbench.registry.attacks import REFERENCE
from fairbench.registry.names import Names, all_tags


class NoRunsError(FairbenchError):
    """No run in the results folder fits the selection."""


def choose_records(
    records: Sequence[Record],
    results: Path,
    *,
    methods: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    models: str | Sequence[str] | None = None,
    protocol: str | None = None,
    baseline: str = BASELINE,
    ids: Collection[str] | None = None,
) -> list[Record]:
    """The records of these methods, with the baseline's, of these data sets, networks and this protocol.

    methods, datasets and models are texts or terms of `fairbench.registry.names`; None chooses all. ids: only
    cells with these ids. Runs that only supply the weights that others start from are left out. Raises
    UnknownNameError for a name that no record has, NoRunsError when nothing fits.
    """
    known = [r for r in records if not r.preparation and (ids is None or r.id in ids)]
    hint = "see: fairbench status; start with: fairbench run"
    if not known:
        raise NoRunsError(f"there are no runs in {results}.", hint=hint)
    names = {
        kind: None if text is None else names_in((getattr(r, kind) for r in known), kind, text, f"--{kind}s")
        for kind, text in (("method", methods), ("dataset", datasets), ("model", models))
    }
    for kind, option, name in (("protocol", "--protocol", protocol), ("method", "--baseline", baseline)):
        if name is not None and (option, name) != ("--baseline", BASELINE):
            require_name({getattr(r, kind) for r in known}, kind, name, f"{option} {name}")
    if names["method"] is not None:
        names["method"] = (*names["method"], baseline)
    chosen = [
        record
        for record in known
        if all(own is None or getattr(record, kind) in own for kind, own in names.items())
        and protocol in (None, record.protocol)
    ]
    if not chosen:
        raise NoRunsError(f"no runs in {results} fit the options.", hint=hint)
    return chosen


def names_in(known: Iterable[str], kind: str, text: str | Sequence[str], option: str) -> tuple[str, ...]:
    """What `text` chooses, as in `fairbench.registry.names`, of the names of a kind that records have.

    Tags are those of the registry of fairbench. Raises UnknownNameError or ConfigError.
    """
    names = sorted(set(known))

    def check(name: str, asked: str) -> None:
        require_name(names, kind, name, asked)

    def tags() -> dict[str, tuple[str, ...]]:
        every = all_tags(load_registry(), kind)
        return {name: every.get(name, ()) for name in names}

    typed = text if isinstance(text, str) else ",".join(text)
    return tuple(Names(kind, names, tags, check).choose(typed, option))


def require_name(known: Collection[str], kind: str, name: str, asked: str) -> None:
    """Raise an error unless records have the name; `asked`: the option and its text.

    NoRunsError for a name that exists, with the command that makes such results, else UnknownNameError.
    """
    if name in known:
        return
    registered = registered_names(kind)
    if name not in registered:
        every = {*known, *registered} if suggest(name, known) == "" and suggest(name, registered) else known
        see = "" if kind == "attack" else "fairbench status"
        raise UnknownNameError(kind, name, every, asked_by=asked, see=see)
    here = f"asked for by: {asked}\nin these results: {', '.join(sorted(known)) or 'none'}"
    if kind == "attack":
        raise NoRunsError(
            f"{name} was not evaluated here.",
            hint=f"{here}\nto evaluate it: fairbench run --attacks {name} with the options of the runs",
        )
    option = "protocol" if kind == "protocol" else f"{kind}s"
    raise NoRunsError(
        f"no run here has the {kind} {name}.",
        hint=f"{here}\nto add one: fairbench run --{option} {name} with the options of the other runs",
    )


def registered_names(kind: str) -> list[str]:
    """The names of a kind that can be run, without those in files of the user."""
    registry = load_registry()
    names = registry.names(kind)
    return [*names, *(f"{name}{REFERENCE}" for name in names)] if kind == "attack" else names

"""What a shell completes: names of methods, data sets, networks, attacks, protocols, suites and runs."""

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
KINDS = {
    "--methods": "method",
    "--datasets": "dataset",
    "--models": "model",
    "--attacks": "attack",
    "--baseline": "method",
    "--protocol": "protocol",
    "--suite": "suite",
}
CHOICES = ("method", "dataset", "model", "attack")  # chosen by several terms


def complete_names(kind: str) -> Completion:
    """The names of a kind that complete the last term of what is typed; also tags and `all`."""

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        return names(kind or str(ctx.params.get("kind") or "").removesuffix("s"), ctx, typed)

    return complete


def names(kind: str, ctx: click.Context, typed: str) -> list[CompletionItem]:
    """The items for what is typed of an option that names things of a kind."""
    from fairbench.core.errors import FairbenchError
    from fairbench.registry import load_registry
    from fairbench.registry.names import ALL, TAG, all_tags

    try:
        registry = load_registry(tuple(ctx.params.get("registry_files") or ()))
        known = registry.names(kind)
    except (FairbenchError, AttributeError):  # a faulty registry file, or no kind yet
        return []
    before, comma, last = typed.rpartition(",")
    if kind in CHOICES:
        tags = {tag for own in all_tags(registry, kind).values() for tag in own}
        known = [ALL, *known, *(f"{TAG}{tag}" for tag in sorted(tags))]
    minus = "-" if last.startswith("-") else ""
    last = last.removeprefix("-")
    return [CompletionItem(f"{before}{comma}{minus}{name}") for name in known if name.startswith(last)]


def complete_runs(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of run folders that begin with what is typed."""
    from fairbench.records.results_folder import ResultsFolder

    results = Path(ctx.params.get("results") or "results")
    runs = ResultsFolder(results).run_folders()
    return [CompletionItem(run.name) for run in runs if run.name.startswith(typed)]

"""`fairbench list`: what the registry knows."""

from pathlib import Path
from typing import Any

import click

from fairbench.cli.options import json_option, open_registry, registry_option
from fairbench.cli.output import columns, print_json
from fairbench.records.attack_strength import STANDARD
from fairbench.registry import Registry

KINDS = ("methods", "datasets", "models", "attacks", "protocols", "suites")


@click.command("list", epilog="Example: fairbench list methods --verbose")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.option("--verbose", "-v", is_flag=True, help="With options, papers and origins.")
@registry_option
@json_option
def list_command(kind: str | None, verbose: bool, registry_files: tuple[Path, ...], as_json: bool) -> None:
    """Show the methods, data sets, networks, attacks, protocols and suites in the registry."""
    registry = open_registry(registry_files)
    kinds = (kind,) if kind else KINDS
    if as_json:
        print_json(
            {
                each: {name: facts(registry, each, name) for name in registry.names(each[:-1])}
                for each in kinds
            }
        )
        return
    for number, each in enumerate(kinds):
        if number:
            click.echo()
        rows = [(name, describe(registry, each, name)) for name in registry.names(each[:-1])]
        click.echo(columns(rows, (each, "")))
        if verbose:
            for name in registry.names(each[:-1]):
                click.echo(f"\n{name}")
                found = facts(registry, each, name)
                for key, value in (told(found) if each == "methods" else found).items():
                    if value not in (None, "", {}, [], ()):
                        click.echo(f"  {key}: {value}".replace(": \n", ":\n"))


def describe(registry: Registry, kind: str, name: str) -> str:
    """One entry in one line."""
    entry = registry.get(kind[:-1], name)
    if kind == "methods":
        paper = entry.paper
        cited = (paper.venue, f"arXiv {paper.arxiv}" if paper.arxiv else None) if paper else ()
        source = ", ".join(filter(None, cited)) or "no paper"
        added = {} if entry.augment is None else {"augment": entry.augment.kind}
        preset = ", ".join(f"{key}={value}" for key, value in {**entry.config, **added}.items())
        return f"{registry.plugin(name).summary}  [{source}]" + (f"  ({preset})" if preset else "")
    if kind == "datasets":
        shape = "x".join(str(size) for size in entry.image_shape)
        sizes = f", {entry.train_size} + {entry.test_size} images" if entry.train_size else ""
        return f"{entry.title or name}: {entry.num_classes or '?'} classes, {shape}{sizes}"
    if kind == "models":
        return f"{entry.title or name}" + (
            f", {entry.mflops:g} MFLOP per 32x32 image" if entry.mflops else ""
        )
    if kind == "attacks":
        words = [entry.kind, f"{entry.norm} {entry.eps:.4g}"]
        if entry.kind == "pgd":
            words.append(f"{entry.num_steps} steps of {entry.step_size:.4g} on {entry.loss}")
        elif getattr(entry, "attacks", "standard") != "standard":
            words.append(" + ".join(entry.attacks))
        if entry.kind == "autoattack":
            numbers = {name: getattr(entry, name) for name in STANDARD if name != "attacks"}
            words += [f"{name}={value}" for name, value in numbers.items() if value != STANDARD[name]]
        if getattr(entry, "precision", "float32") != "float32":
            words.append(f"searched in {entry.precision}, verified in float32")
        return ", ".join(words)
    if kind == "protocols":
        if not hasattr(entry, "epochs"):
            return "each method's own published schedule"
        subset = ", subset of the images" if entry.subset else ""
        last = entry.selection.last
        return f"{entry.epochs} epochs, eps {entry.threat.eps:.4g}, last {last} evaluated{subset}"
    seeds = len(entry.seeds)
    what = f"{', '.join(entry.methods)} on {', '.join(entry.datasets)}"
    return f"{what} ({', '.join(entry.models)}, {seeds} seeds, {entry.protocol})"


def facts(registry: Registry, kind: str, name: str) -> dict[str, Any]:
    """Everything about one entry, as plain data."""
    found: dict[str, Any] = registry.get(kind[:-1], name).model_dump(mode="json", exclude={"name"})
    found["origin"] = registry.origins.get((kind[:-1], name), "")
    if kind == "methods":
        plugin = registry.plugin(name)
        options = plugin.options or {}
        found |= {
            "file": str(plugin.path),
            "summary": plugin.summary,
            "tags": list(plugin.tags),
            **{key.lower(): text for key, text in plugin.doc.items() if key != "Cost"},
            "cost_told": plugin.doc.get("Cost", ""),
            "needs": {
                need: in_words(text, registry.method_config(name)) for need, text in plugin.needs.items()
            },
            "components": registry.method_components(name),
            "options": {o.name: f"{o.default!r}  {o.help}".rstrip() for o in options.values()},
            "fingerprint": plugin.fingerprint,
        }
    return found


def in_words(need: str, config: dict[str, Any]) -> str:
    """A need with the value of the option that it depends on."""
    option = need.removeprefix("as option ")
    return need if option == need else f"{config.get(option)} (option {option})"


def told(found: dict[str, Any]) -> dict[str, Any]:
    """The facts of a method as lines to read."""
    paper, official = found["paper"] or {}, found["official"] or {}
    published = [paper.get("authors"), paper.get("venue"), paper.get("arxiv") and f"arXiv {paper['arxiv']}"]
    program = official.get("repo") and f"{official['repo']}@{(official.get('commit') or '?')[:7]}"
    settings = {**found["config"], **{f"on {name}": values for name, values in found["datasets"].items()}}
    return {
        "summary": found["summary"],
        "paper": ": ".join(filter(None, [paper.get("title"), ", ".join(filter(None, published))])),
        "official program": program and f"{program}, licence {official.get('licence') or 'unknown'}",
        "official protocol": official.get("protocol"),
        "origin": f"{found['origin']} ({found['target']})"
        if found["origin"] != found["file"]
        else found["file"],
        "extends": found["extends"],
        "settings": ", ".join(f"{key}={value}" for key, value in settings.items()),
        "needs": ", ".join(f"{need}: {text}" for need, text in found["needs"].items()),
        "house": "; ".join(
            f"{name} ({', '.join(f'{key}={value}' for key, value in block.items())})"
            for name, block in found["components"].items()
        ),
        "cost": f"{found['cost']:g} x TRADES. {found['cost_told']}".strip(),
        "tags": ", ".join(found["tags"]),
        "options": "".join(f"\n    {name} = {text}" for name, text in found["options"].items()),
        **{key: found.get(key) for key in ("idea", "objective", "source", "deviates")},
    }

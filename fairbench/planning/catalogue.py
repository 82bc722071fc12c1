"""What the registry holds, as facts for programs and as lines to read."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from fairbench.records.attack_strength import STANDARD
from fairbench.registry import Registry

KINDS = ("methods", "datasets", "models", "attacks", "protocols", "suites")


def facts(registry: Registry, kind: str, name: str) -> dict[str, Any]:
    """Everything about one entry as plain data; kind as in KINDS."""
    entry: dict[str, Any] = registry.get(kind[:-1], name).model_dump(mode="json", exclude={"name"})
    entry["origin"] = registry.origins.get((kind[:-1], name), "")
    entry["tags"] = list(registry.tags(kind[:-1], name))
    if kind == "methods":
        plugin, config = registry.plugin(name), registry.method_config(name)
        entry |= {
            "file": str(plugin.path),
            "summary": plugin.summary,
            **{key.lower(): text for key, text in plugin.doc.items() if key != "Cost"},
            "cost_text": plugin.doc.get("Cost", ""),
            "needs": {need: with_value(text, config) for need, text in plugin.needs.items()},
            "components": registry.method_components(name),
            "options": {o.name: f"{o.default!r}  {o.help}".rstrip() for o in (plugin.options or {}).values()},
            "fingerprint": plugin.fingerprint,
        }
    return entry


def tag_counts(registry: Registry, kind: str, names: Iterable[str]) -> dict[str, int]:
    """How many of the entries have each tag, in the order of the tags' names."""
    tags = (tag for name in names for tag in registry.tags(kind[:-1], name))
    return dict(sorted(Counter(tags).items()))


def with_value(need: str, config: dict[str, Any]) -> str:
    """A need; when it depends on an option, with the option's value."""
    option = need.removeprefix("as option ")
    return need if option == need else f"{config.get(option)} (option {option})"


def lines(registry: Registry, kind: str, name: str) -> dict[str, str]:
    """The facts of one entry that are not empty, as text by their name."""
    known = facts(registry, kind, name)
    shown = method_lines(known) if kind == "methods" else known
    return {key: str(value) for key, value in shown.items() if value not in (None, "", {}, [], ())}


def method_lines(known: dict[str, Any]) -> dict[str, Any]:
    """The facts of a method in the order in which they are read."""
    paper, official = known["paper"] or {}, known["official"] or {}
    published = [paper.get("authors"), paper.get("venue"), paper.get("arxiv") and f"arXiv {paper['arxiv']}"]
    program = official.get("repo") and f"{official['repo']}@{(official.get('commit') or '?')[:7]}"
    settings = {**known["config"], **{f"on {name}": values for name, values in known["datasets"].items()}}
    own_file = known["origin"] == known["file"]
    return {
        "summary": known["summary"],
        "paper": ": ".join(filter(None, [paper.get("title"), ", ".join(filter(None, published))])),
        "official program": program and f"{program}, licence {official.get('licence') or 'unknown'}",
        "official protocol": official.get("protocol"),
        "origin": known["file"] if own_file else f"{known['origin']} ({known['target']})",
        "extends": known["extends"],
        "settings": pairs(settings),
        "needs": ", ".join(f"{need}: {text}" for need, text in known["needs"].items()),
        "components": "; ".join(
            f"{name} ({pairs(options)})" for name, options in known["components"].items()
        ),
        "cost": f"{known['cost']:g} x TRADES. {known['cost_text']}".strip(),
        "tags": ", ".join(known["tags"]),
        "options": "".join(f"\n    {name} = {text}" for name, text in known["options"].items()),
        **{key: known.get(key) for key in ("idea", "objective", "source", "deviates")},
    }


def pairs(values: dict[str, Any]) -> str:
    """Settings as "beta=6.0, cap=2.0"."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def describe(registry: Registry, kind: str, name: str) -> str:
    """One entry in one line; kind as in KINDS."""
    return _DESCRIBE[kind](registry, name)


def _method(registry: Registry, name: str) -> str:
    entry = registry.get("method", name)
    paper = entry.paper
    published = (paper.venue, f"arXiv {paper.arxiv}" if paper.arxiv else None) if paper else ()
    source = ", ".join(filter(None, published)) or "no paper"
    augment = {} if entry.augment is None else {"augment": entry.augment.kind}
    settings = pairs({**entry.config, **augment})
    return f"{registry.plugin(name).summary}  [{source}]" + (f"  ({settings})" if settings else "")


def _dataset(registry: Registry, name: str) -> str:
    entry = registry.get("dataset", name)
    shape = "x".join(str(size) for size in entry.image_shape)
    sizes = f", {entry.train_size} + {entry.test_size} images" if entry.train_size else ""
    return f"{entry.title or name}: {entry.num_classes or '?'} classes, {shape}{sizes}"


def _model(registry: Registry, name: str) -> str:
    entry = registry.get("model", name)
    cost = f", {entry.mflops:g} MFLOP per 32x32 image" if entry.mflops else ""
    return f"{entry.title or name}{cost}"


def _attack(registry: Registry, name: str) -> str:
    entry = registry.get("attack", name)
    words = [entry.kind, f"{entry.norm} {entry.eps:.4g}"]
    if entry.kind == "pgd":
        words.append(f"{entry.num_steps} steps of {entry.step_size:.4g} on {entry.loss}")
    elif getattr(entry, "attacks", "standard") != "standard":
        words.append(" + ".join(entry.attacks))
    if entry.kind == "autoattack":
        numbers = {key: getattr(entry, key) for key in STANDARD if key != "attacks"}
        words += [f"{key}={value}" for key, value in numbers.items() if value != STANDARD[key]]
    if getattr(entry, "precision", "float32") != "float32":
        words.append(f"searched in {entry.precision}, verified in float32")
    return ", ".join(words)


def _protocol(registry: Registry, name: str) -> str:
    entry = registry.get("protocol", name)
    if not hasattr(entry, "epochs"):
        return "each method's own published schedule"
    subset = ", subset of the images" if entry.subset else ""
    last = entry.selection.last
    return f"{entry.epochs} epochs, eps {entry.threat.eps:.4g}, last {last} evaluated{subset}"


def _suite(registry: Registry, name: str) -> str:
    entry = registry.get("suite", name)
    what = f"{', '.join(entry.methods)} on {', '.join(entry.datasets)}"
    return f"{what} ({', '.join(entry.models)}, {len(entry.seeds)} seeds, {entry.protocol})"


_DESCRIBE: dict[str, Callable[[Registry, str], str]] = {
    "methods": _method,
    "datasets": _dataset,
    "models": _model,
    "attacks": _attack,
    "protocols": _protocol,
    "suites": _suite,
}

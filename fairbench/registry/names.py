"""The names that an option chooses: `trix,dafa`, `all,-frl`, `trix-*`, `tag:reweighting`.

Terms are separated by commas. A term is a name, `all`, a pattern with `*`, `?` or `[...]`, or `tag:NAME`
(which may be a pattern too). A term that begins with `-` takes names away, whichever place it has. Names are
in the order in which terms choose them, each once; a pattern chooses in the order of the registry.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from fairbench.core.errors import ConfigError, suggest
from fairbench.registry.protocol import TIERS
from fairbench.registry.registry import Registry

ALL, TAG = "all", "tag:"
DEFAULT = ""  # the text of the term for names that are left of the default
WILDCARDS = frozenset("*?[")
SEPARATOR = re.compile(r"[,\s]+")
PLURALS = {"method": "methods", "dataset": "data sets", "model": "networks", "attack": "attacks"}


Base = Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Term:
    """One term as it is written, without `-` and `@`. `at`: the text after `@`, only for attacks."""

    text: str
    excludes: bool = False
    at: str = ""

    @property
    def is_name(self) -> bool:
        """Whether it is the name of one thing."""
        return not (self.text == ALL or self.text.startswith(TAG) or WILDCARDS & set(self.text))


@dataclass(frozen=True)
class Names:
    """What can be chosen from.

    `tags`: those of each name. `check`: raises the error for a name that is unknown. `places`: what may
    follow a term after `@`.
    """

    kind: str
    known: Sequence[str]
    tags: Callable[[], Mapping[str, Collection[str]]]
    check: Callable[[str, str], Any]
    places: Sequence[str] = ()

    def choose(self, text: str, option: str, base: Base | None = None) -> dict[str, Term]:
        """The names that `text` chooses, each with the term that chose it; a written name beats a pattern.

        `base` is what a text of exclusions alone takes names away from; by default all. Raises
        UnknownNameError or ConfigError, which begin with `option`, when a term or the whole chooses nothing.
        """
        terms = [self.read(part, option) for part in SEPARATOR.split(text) if part]
        asked = f"{option} {text}"
        if not terms:
            raise ConfigError(f"{option} is empty.", hint=f"give names or 'all'; see: {self.listed}")
        chosen: dict[str, Term] = {}
        included = [term for term in terms if not term.excludes]
        excluded = {name for term in terms if term.excludes for name in self.matches(term, asked)}
        if not included:
            everything = self.known if base is None else base()
            if base is not None and not excluded & set(everything):
                default = (
                    f"the default, {', '.join(everything)}"
                    if everything
                    else "a default that all data sets share"
                )
                raise ConfigError(
                    f"{asked}: an exclusion alone takes away from the default, and this is not in {default}.",
                    hint=f"to take away from everything: {option} {ALL},{text}",
                )
            chosen = dict.fromkeys(everything, Term(ALL if base is None else DEFAULT))
        for term in included:
            for name in self.matches(term, asked):
                if name not in chosen or term.is_name or not chosen[name].is_name:
                    chosen[name] = term
        left = {name: term for name, term in chosen.items() if name not in excluded}
        if not left:
            raise ConfigError(f"{asked}: nothing is left.", hint=f"see: {self.listed}")
        return left

    def read(self, text: str, option: str) -> Term:
        """The term that is written as `text`. Raises ConfigError for what follows its `@`."""
        excludes, body, at, place = text.startswith("-"), text.removeprefix("-"), "", ""
        if self.places:
            body, at, place = body.partition("@")
        if at and excludes:
            raise ConfigError(
                f"{option}: {text!r} takes {body} away at all checkpoints.", hint=f"write -{body}"
            )
        if at and place not in self.places:
            hint = f"write {body}@{' or @'.join(self.places)}"
            raise ConfigError(f"{option}: no checkpoints called {place!r}.", hint=hint)
        return Term(body, excludes, place)

    def matches(self, term: Term, asked: str) -> list[str]:
        """The names that a term stands for, at least one."""
        if term.is_name:
            self.check(term.text, asked)
            return [term.text]
        if term.text == ALL:
            return list(self.known)
        if term.text.startswith(TAG):
            return self._tagged(term.text.removeprefix(TAG), asked)
        names = [name for name in self.known if fnmatchcase(name, term.text)]
        if not names:
            raise ConfigError(
                f"{asked}: no {self.kind} matches {term.text!r}.",
                hint=f"known: {', '.join(self.known) or 'none'}",
            )
        return names

    def _tagged(self, tag: str, asked: str) -> list[str]:
        by_name = self.tags()
        names = [name for name in self.known if any(fnmatchcase(own, tag) for own in by_name.get(name, ()))]
        if not names:
            known = sorted({own for tags in by_name.values() for own in tags})
            close = suggest(tag, known)
            raise ConfigError(
                f"{asked}: no {self.kind} has the tag {tag!r}.",
                hint=(f"did you mean: {TAG}{close}\n" if close else "")
                + f"tags of {PLURALS.get(self.kind, self.kind)}: {', '.join(known) or 'none'}",
            )
        return names

    @property
    def listed(self) -> str:
        return f"fairbench list {self.kind}s"


def names_of(registry: Registry, kind: str) -> Names:
    """What can be chosen of a kind ("method", "dataset", ...) of the registry."""

    def check(name: str, asked: str) -> Any:
        return registry.get(kind, name, asked_by=asked)

    places = TIERS if kind == "attack" else ()
    return Names(kind, registry.names(kind), partial(all_tags, registry, kind), check, places)


def all_tags(registry: Registry, kind: str) -> dict[str, tuple[str, ...]]:
    """The tags of every entry of a kind, by name."""
    return {name: registry.tags(kind, name) for name in registry.names(kind)}

"""Which tensors of a checkpoint are the weights of a network: layouts of other trainers.

The names are tried as they are first; then the part of the state dict whose names end as the network's do
(`module.`, `model.`, `backbone.`, `1.`, ...), without `_orig_mod.` of torch.compile. Where several parts fit
and differ, a part with a usual name is taken and the others are named.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fairbench.core.errors import CheckpointError
from fairbench.evaluation.external_checkpoint import Checkpoint

PREFERRED = (
    "state_dict", "model_state_dict", "model", "net", "weights", "last",
    "net_state_dict", "model_state", "params", "network", "module", "rmodel",
)  # fmt: skip
"""Usual names of weights, the first one first: of keys in a file, and of prefixes in a state dict."""
INFIXES = ((), ("_orig_mod.",), ("_orig_mod.", "module."))  # taken out of names anywhere, in this order
COUNTERS = ("num_batches_tracked", "n_averaged", "n_classes", "total_ops", "total_params")
CONSTANTS = (("mean", "std"), ("mu", "sigma"), ("mu", "std"), ("new_mean", "new_std"))


class Part(NamedTuple):
    """A part of a file that fits a network: its key and prefix, and the weights in the network's names."""

    place: str
    weights: Mapping[str, Tensor]
    names: frozenset[str]  # of the weights, in the file
    rest: Mapping[str, Tensor]  # the other tensors of the same state dict
    key: str = ""  # of the state dict


@dataclass(frozen=True)
class ChosenWeights:
    """The weights for a network; `others` and `unused` name what else is in the file.

    `normalisation`: mean and standard deviation (channels,) that the file holds beside the network, if they
    are not 0 and 1.
    """

    place: str
    weights: Mapping[str, Tensor]
    others: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    normalisation: tuple[Tensor, Tensor] | None = None

    def notes(self, name: str) -> list[str]:
        """What the user should know of the choice; `name` is that of the file."""
        lines = []
        if self.place or self.others:
            place = f"{self.place} of {name}" if self.place else f"the top level of {name}"
            others = ", ".join(self.others)
            other = f"; other weights in it: {others} (name the ones you want: --key KEY)" if others else ""
            lines.append(f"weights: {place}{other}")
        if self.unused:
            more = ", ..." if self.unused[3:] else ""
            lines.append(f"not used: {len(self.unused)} tensors ({', '.join(self.unused[:3])}{more})")
        return lines


def choose_weights(
    checkpoint: Checkpoint,
    expected: Mapping[str, Tensor],
    *,
    key: str | None = None,
    optional: Iterable[str] = (),
    ignored: tuple[str, ...] = (),
) -> ChosenWeights:
    """The weights in `checkpoint` for a network with the tensors `expected`.

    key: the part to take, as other parts are named in notes. optional: tensors that the checkpoint may lack.
    ignored: prefixes of names that the network does not have and that are no fault. Raises CheckpointError
    when parts fit equally well, or with the names in the file when none fits.
    """
    parts = list(fitting_parts(checkpoint, expected, {*optional}, ignored))
    if key is not None:
        chosen = [part for part in parts if part.place == key]
        chosen = chosen or [part for part in parts if part.place.startswith(f"{key}.")]
        if not chosen:
            raise no_such_key(checkpoint, parts, key)
        parts = chosen + [part for part in parts if part not in chosen]
        best = most_usual(checkpoint, chosen)
    elif not parts:
        return nearest(checkpoint, expected)
    else:
        best = most_usual(checkpoint, parts)
    others = []
    for part in parts:
        same = same_weights(part, best)
        if not same or part.key != best.key:  # not the copies that one state dict holds
            others.append((part.place or "the top level") + (", which are equal," if same else ""))
    copies = {name for part in parts if same_weights(part, best) for name in part.names}
    normalisation, constants = find_normalisation(best.rest)
    unused = [
        name for name in best.rest if not (name in copies or name in constants or name.endswith(COUNTERS))
    ]
    return ChosenWeights(best.place, best.weights, tuple(others), tuple(unused), normalisation)


def fitting_parts(
    checkpoint: Checkpoint, expected: Mapping[str, Tensor], optional: set[str], ignored: tuple[str, ...]
) -> Iterator[Part]:
    """The parts of the file whose names are those of the network; a whole state dict comes alone."""
    for key, tensors in checkpoint.state_dicts.items():
        for infixes in INFIXES:
            renamed = {without(name, infixes): value for name, value in tensors.items()}
            found = list(parts_of(renamed, expected, optional, ignored))
            if found:
                yield from (
                    part._replace(place=".".join(filter(None, (key, part.place))), key=key) for part in found
                )
                break


def parts_of(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    optional: set[str],
    ignored: tuple[str, ...],
) -> Iterator[Part]:
    """The prefixes under which the network's names are found, "" first; nothing else may be under them."""
    for added in ("", *common_prefixes(expected)):  # the network may be a wrapper around what was saved
        own = {name.removeprefix(added): name for name in expected}
        required = {
            name for name, full in own.items() if full not in optional and not name.endswith(COUNTERS)
        }
        anchor = max(required, key=len, default="")
        ends = {name[: len(name) - len(anchor)] for name in tensors if name.endswith(anchor)}
        fitting = False
        for prefix in sorted((end for end in ends if not end or end.endswith(".")), key=len):
            inside = {n.removeprefix(prefix): n for n in tensors if n.startswith(prefix)}
            extra = [
                name
                for name in inside.keys() - own.keys()
                if not (name.startswith(ignored) or name.endswith(COUNTERS) or is_constant(name))
            ]
            if required <= inside.keys() and not extra:
                fitting = True
                used = {own[name]: tensors[full] for name, full in inside.items() if name in own}
                names = frozenset(inside[name] for name in own if name in inside)
                gone = tuple(f"{prefix}{each}" for each in ignored)
                rest = {n: v for n, v in tensors.items() if n not in names and not n.startswith(gone)}
                yield Part(prefix.rstrip("."), used, names, rest)
                if not prefix:
                    return
        if fitting:
            return


def common_prefixes(names: Iterable[str]) -> list[str]:
    """Prefixes "a.", "a.b.", ... that all `names` have."""
    prefixes: list[str] = []
    first, *others = list(names) or [""]
    for part in first.split(".")[:-1]:
        prefix = f"{prefixes[-1] if prefixes else ''}{part}."
        if not all(name.startswith(prefix) for name in others):
            break
        prefixes.append(prefix)
    return prefixes


def without(name: str, infixes: Sequence[str]) -> str:
    """`name` without the parts that wrappers of inner modules add."""
    for infix in infixes:
        while name.startswith(infix) or f".{infix}" in name:
            name = name.removeprefix(infix).replace(f".{infix}", ".")
    return name


def usual_first(place: str) -> tuple[int, int]:
    """How usual the name of a part is, then how short: the smallest is taken."""
    last = place.rpartition(".")[2]
    usual = PREFERRED.index(last) if last in PREFERRED else len(PREFERRED)
    return (usual if place else -1), place.count(".")


def most_usual(checkpoint: Checkpoint, parts: Sequence[Part]) -> Part:
    """The part with the most usual name. Raises CheckpointError when different parts are as usual."""
    ordered = sorted(parts, key=lambda part: usual_first(part.place))
    first = ordered[0]
    rivals = [
        part
        for part in ordered[1:]
        if usual_first(part.place) == usual_first(first.place) and not same_weights(part, first)
    ]
    if rivals:
        places = ", ".join(part.place for part in (first, *rivals))
        raise CheckpointError(
            f"{checkpoint.path} holds several sets of weights for this network: {places}.",
            hint=f"choose one, for instance --key {first.place}",
        )
    return first


def same_weights(one: Part, other: Part) -> bool:
    """Whether two parts have the same tensors."""
    if one.weights.keys() != other.weights.keys():
        return False
    pairs = ((value, other.weights[name]) for name, value in one.weights.items())
    return all(a is b or (a.shape == b.shape and torch.equal(a, b)) for a, b in pairs)


def is_constant(name: str) -> bool:
    """Whether a tensor is by its name a constant of a normalisation: `mean`, `normalizer.new_std`, ..."""
    return name.rpartition(".")[2] in {each for pair in CONSTANTS for each in pair}


def find_normalisation(rest: Mapping[str, Tensor]) -> tuple[tuple[Tensor, Tensor] | None, set[str]]:
    """The mean and standard deviation beside a network, unless 0 and 1; and the names of all such tensors."""
    pairs: list[tuple[Tensor, Tensor]] = []
    names: set[str] = set()
    for mean_key, std_key in CONSTANTS:
        for name, mean in rest.items():
            place, _, last = name.rpartition(".")
            other = f"{place}.{std_key}" if place else std_key
            if last != mean_key or other not in rest or not 1 <= mean.numel() <= 4:
                continue
            pair = mean.detach().float().reshape(-1), rest[other].detach().float().reshape(-1)
            names |= {name, other}
            trivial = bool((pair[0] == 0).all() and (pair[1] == 1).all())
            known = any(all(torch.equal(a, b) for a, b in zip(pair, each, strict=True)) for each in pairs)
            if not trivial and not known and bool((pair[1] > 0).all()):
                pairs.append(pair)
    return (pairs[0] if len(pairs) == 1 else None), (names if len(pairs) < 2 else set())


def nearest(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> ChosenWeights:
    """The largest state dict, without prefixes; it does not fit, and loading it raises why."""
    largest = max(map(len, checkpoint.state_dicts.values()))
    keys = [key for key, tensors in checkpoint.state_dicts.items() if len(tensors) == largest]
    key = min(keys, key=usual_first)
    weights = {without(name, INFIXES[1]): value for name, value in checkpoint.state_dicts[key].items()}
    for _ in range(3):
        for prefix in common_prefixes(weights):
            if sum(name in expected for name in weights) < len(weights) // 2:
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                break
    return ChosenWeights(key, weights)


def contents(checkpoint: Checkpoint) -> str:
    """What is in the file, for messages: each state dict with its size and the beginnings of its names."""
    lines = []
    for key, tensors in list(checkpoint.state_dicts.items())[:6]:
        heads = list(dict.fromkeys(name.partition(".")[0] for name in tensors))
        names = ", ".join(heads[:4]) + (", ..." if heads[4:] else "")
        lines.append(f"{key or 'the top level'}: {len(tensors)} tensors ({names})")
    return "the file holds " + "; ".join(lines)


def no_such_key(checkpoint: Checkpoint, parts: Sequence[Part], key: str) -> CheckpointError:
    """The error for a part that the file lacks, or whose names are not those of the network."""
    fitting = [part.place for part in parts if part.place]
    there = key in checkpoint.state_dicts
    reason = "does not fit this network" if there else "is not in the file, or does not fit this network"
    return CheckpointError(
        f"{checkpoint.path}: --key {key} {reason}.",
        hint=(f"these fit: {', '.join(fitting)}\n" if fitting else "") + contents(checkpoint),
    )

"""The title of a table and its caption of three lines: what a reader of the paper must know.

What changes the meaning of a number is in the caption. Definitions are in the legend after the last table,
and in full sentences in `description.py`.
"""

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from fairbench.records.attack_strength import bound, is_autoattack
from fairbench.records.read import AttackKey, Record
from fairbench.tables.description import class_sizes, protocol_name
from fairbench.tables.entries import Entry
from fairbench.tables.groups import assignments, is_per_method, setting_overrides
from fairbench.tables.inventory import SettingRecords, TableSpec
from fairbench.tables.request import TableRequest
from fairbench.tables.table import PLUS_MINUS

LINES = 3
WIDTH = 80  # characters of a line
_MAX_TITLE = 110
_MAX_NAMES = 3
_PRECISIONS = {
    "tf32-conv": "Trained with TF32 convolutions.",
    "tf32": "Trained in TF32.",
    "bf16": "Trained in bfloat16.",
}


def title(setting: SettingRecords, attack: AttackKey | None, sides: Sequence[str] = ()) -> str:
    """Network, data set, schedule, attack and radius as papers name them; "clean" for that side alone."""
    record = setting.first
    parts = [record.title("model"), record.title("dataset"), _schedule(record)]
    parts.append(_distinct_name(attack, setting) if attack else "clean" if sides else "no attack")
    variant = setting.variant or assignments(setting_overrides(record))
    text = ", ".join(parts) + (f" ({variant})" if variant else "")
    return text if len(text) <= _MAX_TITLE else f"{text[: _MAX_TITLE - 3]}..."


def _distinct_name(attack: AttackKey, setting: SettingRecords) -> str:
    """The attack as papers name it; as the user does where another attack has that name too."""
    name = attack_name(attack)
    alike = sum(attack_name(other) == name for other in setting.attacks) > 1
    return f"{name} ({attack.name})" if alike else name


def attack_name(attack: AttackKey) -> str:
    """An attack with its radius in print: "AutoAttack, 8/255", "PGD-20, L2 0.5"."""
    settings: dict[str, Any] = json.loads(attack.settings)
    kind, steps = settings.get("kind"), settings.get("num_steps")
    name = attack.name
    if is_autoattack(settings):
        name = "AutoAttack" + (" (reference package)" if settings.get("engine") == "reference" else "")
    elif kind == "pgd" and steps is not None and settings.get("loss", "ce") in _PGD:
        name = f"{_PGD[settings.get('loss', 'ce')]}-{steps}" + (" targeted" if settings.get("target") else "")
    elif kind == "a3":
        name = "A3"
    radius = settings.get("eps")
    norm = "L2 " if settings.get("norm") == "l2" else ""
    return name if radius is None else f"{name}, {norm}{_radius(float(radius))}"


_PGD = {"ce": "PGD", "margin": "CW"}


def _radius(eps: float) -> str:
    """The radius as papers write it: "8/255" for multiples of 1/255, else "0.031"."""
    steps = round(255 * eps)
    return f"{steps}/255" if steps >= 1 and abs(255 * eps - steps) < 1e-6 else f"{eps:.3g}"


def _schedule(record: Record) -> str:
    if is_per_method(record):
        return f"{record.protocol}: each method's own schedule"
    name, epochs = protocol_name(record), record.cell.part("protocol").get("epochs")
    known = (
        epochs is None
        or "epochs" in setting_overrides(record)
        or re.search(rf"\b{epochs}\b", record.protocol)
    )
    return name if known else f"{name} ({epochs} epoch{'' if epochs == 1 else 's'})"


def phrases(spec: TableSpec, request: TableRequest, sides: Sequence[str]) -> tuple[str, ...]:
    """The caption in short sentences, most important first; those that have no room become notes."""
    entries, attack = spec.entries, spec.attack
    if not entries:
        return ("No run of this table is done yet.",)
    said = [_numbers(spec, request)]
    if attack is not None and "robust" in sides:
        said.append(bound(json.loads(attack.settings)))
    said.append(_PRECISIONS.get(spec.setting.first.precision, ""))
    said.append(_some("Fine-tuned", entries, lambda e: bool(e.record.cell.part("fine_tune"))))
    said.append(_some("Reconstructed", entries, lambda e: bool(e.record.cell.titles.get("reconstructed"))))
    said += _of_rho(spec, request)
    sizes = class_sizes(entries)
    said.append(f"{min(sizes)}-{max(sizes)} images per class." if len(sizes) > 1 else "")
    return tuple(filter(None, said))


def _numbers(spec: TableSpec, request: TableRequest) -> str:
    """What each number is: mean over seeds and checkpoints, and the error."""
    where = checkpoints(spec.entries)
    if request.view == "comparison":
        return _differences(spec, where)
    counts = sorted({len(entry.seeds) for entry in spec.entries})
    if counts == [1]:
        return f"One seed, without {PLUS_MINUS}, {where}."
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    error = "95 % t interval" if request.error == "t95" else "standard deviation"
    return f"Mean {PLUS_MINUS} {error} over {seeds}, {where}."


def _differences(spec: TableSpec, where: str) -> str:
    if spec.base is None:
        return "There is no baseline to compare with."
    shared = {len(set(e.seeds) & set(spec.base.seeds)) for e in spec.entries if e is not spec.base} - {0}
    if shared == {1}:
        return (
            f"Minus {spec.base.title}, in points, one seed: compares checkpoints, not methods; McNemar's p."
        )
    low, high = min(shared, default=0), max(shared, default=0)
    seeds = f"{low} common seeds" if low == high else f"{low} to {high} common seeds"
    return f"Minus {spec.base.title}, in points, mean {PLUS_MINUS} 95 % t interval over {seeds}, {where}."


def checkpoints(entries: Sequence[Entry]) -> str:
    """Of which epochs the numbers are: "epochs 10-12", or that they differ."""
    epochs, *others = {seed.epochs for entry in entries for seed in entry.seeds.values()}
    if others:
        return "unequal last epochs"
    if len(epochs) == 1:
        return f"epoch {epochs[0]}"
    if epochs == tuple(range(epochs[0], epochs[-1] + 1)):
        return f"epochs {epochs[0]}-{epochs[-1]}"
    return f"epochs {', '.join(map(str, epochs))}" if len(epochs) <= 5 else f"{len(epochs)} checkpoints"


def _of_rho(spec: TableSpec, request: TableRequest) -> list[str]:
    if "rho" not in request.names or spec.base is None or request.view in ("classes", "comparison"):
        return []
    rule = "" if request.convention == "signed" else ", by the rule of the TRIX paper's printed numbers"
    return [f"rho is against {spec.base.title}{rule}."]


def _some(word: str, entries: Sequence[Entry], condition: Any) -> str:
    """ "Fine-tuned: FAAL." for the entries that `condition` holds for; "" for none."""
    names = [entry.title for entry in entries if condition(entry)]
    if not names:
        return ""
    short = ", ".join(names) if len(names) <= _MAX_NAMES else f"{len(names)} methods"
    return f"{word}: {short}."


def fitted(sentences: Iterable[str], before: str = "", width: int = WIDTH) -> tuple[list[str], list[str]]:
    """The sentences that fit into LINES lines together with the text before, and those that have no room."""
    kept: list[str] = []
    left_out: list[str] = []
    for sentence in sentences:
        lines = textwrap.wrap(" ".join([before, *kept, sentence]), width, break_on_hyphens=False)
        (kept if len(lines) <= LINES or not kept else left_out).append(sentence)
    return kept, left_out

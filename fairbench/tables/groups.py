"""Which records belong to one table: those with the same data set, network and protocol settings."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairbench.core.identity import canonical_json, digest
from fairbench.records.read import Record

_PROTOCOL = "protocol."  # prefix of the overrides that change the protocol, not the method
_MAX_DIFFERENCES = 4


@dataclass(frozen=True, order=True)
class Setting:
    """Data set, network and protocol of a table. `digest` differs where equal names have other content."""

    dataset: str
    model: str
    protocol: str
    digest: str


def setting_of(record: Record) -> Setting:
    """The setting that a record belongs to.

    Under a protocol that gives each method its own published schedule, records with different schedules
    belong to one setting.
    """
    part = record.cell.part
    content: dict[str, Any] = {"dataset": part("dataset"), "model": part("model")}
    if is_per_method(record):
        content |= {"overrides": setting_overrides(record), "precision": record.precision}
    else:
        content["protocol"] = _as_computed(part("protocol"), record)
    return Setting(record.dataset, record.model, record.protocol, digest(content))


def is_per_method(record: Record) -> bool:
    """Whether the record's protocol gives each method its own published schedule."""
    return record.cell.protocol_name != record.protocol


def protocol_version(record: Record) -> str:
    """The version of its protocol; "" where each method has its own schedule."""
    return "" if is_per_method(record) else record.cell.protocol_version


def method_overrides(record: Record) -> dict[str, Any]:
    """The overrides that change the record's method."""
    return {key: value for key, value in record.overrides.items() if not key.startswith(_PROTOCOL)}


def setting_overrides(record: Record) -> dict[str, Any]:
    """The overrides that change its protocol, keyed by the protocol's own names."""
    overrides = record.overrides.items()
    return {key.removeprefix(_PROTOCOL): value for key, value in overrides if key.startswith(_PROTOCOL)}


def setting_labels(records: Mapping[Setting, Record]) -> dict[Setting, str]:
    """For each setting its differences to others with the same names, "" where the names are unique."""
    by_name: dict[tuple[str, str, str], list[Setting]] = defaultdict(list)
    for setting in records:
        by_name[(setting.dataset, setting.model, setting.protocol)].append(setting)
    labels = dict.fromkeys(records, "")
    for variants in by_name.values():
        if len(variants) > 1:
            contents = [_content(records[setting]) for setting in variants]
            labels.update(zip(variants, differences(contents), strict=True))
    return labels


def differences(contents: Iterable[Mapping[str, Any]]) -> list[str]:
    """For each mapping the values that differ between the mappings, as "a=1, b=2"."""
    flat = [_flat(content) for content in contents]
    keys = sorted({key for content in flat for key in content})
    varying = [key for key in keys if len({canonical_json(content.get(key)) for content in flat}) > 1]
    return [assignments({key: content.get(key) for key in varying[:_MAX_DIFFERENCES]}) for content in flat]


def assignments(values: Mapping[str, Any]) -> str:
    """The values as "a=1, b=2" in the order of their keys."""
    return ", ".join(f"{key}={_short(value)}" for key, value in sorted(values.items()))


def _content(record: Record) -> dict[str, Any]:
    part = record.cell.part
    settings = setting_overrides(record) if is_per_method(record) else part("protocol")
    return {**_as_computed(settings, record), "dataset": part("dataset"), "model": part("model")}


def _as_computed(settings: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """Settings of a protocol with the precision that was in use in place of the one that was chosen."""
    others = {key: value for key, value in settings.items() if key != "precision"}
    return others if record.precision == "fp32" else {**others, "precision": record.precision}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and item:
            flat.update(_flat(item, f"{name}."))
        else:
            flat[name] = item
    return flat


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    if isinstance(value, float) and len(text) > 8:
        return f"{value:.6g}"  # 8/255 is 0.0313725, still not 0.031
    return text if len(text) <= 24 else f"{text[:12]}..."

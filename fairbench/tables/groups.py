"""What may stand in one table: the same data, network, protocol and attack, to the last setting."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairbench.core.identity import canonical_json, digest
from fairbench.records.read import Record

_PROTOCOL = "protocol."  # how a cell marks the overrides that are not its method's
_MAX_DIFFERENCES = 4


@dataclass(frozen=True, order=True)
class Setting:
    """Data set, network and protocol of a table. `digest` tells apart equal names with other content."""

    dataset: str
    model: str
    protocol: str
    digest: str


def setting_of(record: Record) -> Setting:
    """The table setting that a record belongs to.

    Under a protocol that lets each method train by its own published schedule, the schedule
    differs from method to method on purpose; all of them share one table.
    """
    content: dict[str, Any] = {"dataset": record.identity("dataset"), "model": record.identity("model")}
    if is_per_method(record):
        content |= {"overrides": setting_overrides(record), "precision": record.precision}
    else:
        content["protocol"] = record.identity("protocol")
    return Setting(record.dataset, record.model, record.protocol, digest(content))


def is_per_method(record: Record) -> bool:
    """Whether the record's protocol lets every method use its own."""
    protocol = record.identity("protocol")
    return bool(protocol.get("per_method")) or protocol.get("name", record.protocol) != record.protocol


def method_overrides(record: Record) -> dict[str, Any]:
    """The overrides that change the record's method."""
    return {key: value for key, value in record.overrides.items() if not key.startswith(_PROTOCOL)}


def setting_overrides(record: Record) -> dict[str, Any]:
    """The overrides that change its protocol, keyed by the protocol's own names."""
    found = record.overrides.items()
    return {key.removeprefix(_PROTOCOL): value for key, value in found if key.startswith(_PROTOCOL)}


def setting_labels(records: Mapping[Setting, Record]) -> dict[Setting, str]:
    """For each setting the differences to others of the same names, "" where the names suffice."""
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
    """For each mapping the keys whose values are not the same in all of them, as "a=1, b=2"."""
    flat = [_flat(content) for content in contents]
    keys = sorted({key for content in flat for key in content})
    varying = [key for key in keys if len({canonical_json(content.get(key)) for content in flat}) > 1]
    return [assignments({key: content.get(key) for key in varying[:_MAX_DIFFERENCES]}) for content in flat]


def assignments(values: Mapping[str, Any]) -> str:
    """The values as "a=1, b=2" in the order of their keys."""
    return ", ".join(f"{key}={_short(value)}" for key, value in sorted(values.items()))


def _content(record: Record) -> dict[str, Any]:
    if is_per_method(record):
        protocol: dict[str, Any] = setting_overrides(record)
    else:
        protocol = record.identity("protocol")
    return {**protocol, "dataset": record.identity("dataset"), "model": record.identity("model")}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and item:
            found.update(_flat(item, f"{name}."))
        else:
            found[name] = item
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    if isinstance(value, float) and len(text) > 8:
        return f"{value:.6g}"  # 8/255 is 0.0313725, still not 0.031
    return text if len(text) <= 24 else f"{text[:12]}..."

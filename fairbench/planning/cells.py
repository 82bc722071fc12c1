"""Cells: method x dataset x model x protocol x seed, fully resolved and frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fairbench.core.errors import RecordError, SchemaError
from fairbench.core.identity import digest
from fairbench.records.checks import checked_cell
from fairbench.registry import Protocol
from fairbench.registry.components import FineTune

SCHEMA = 1


@dataclass(frozen=True)
class Cell:
    """One trainable unit. `identity` holds what can change the weights, and nothing else.

    `evaluation` lists the attacks on them; each has an id of its own, so a new attack never
    retrains. `locations` says where files are and `titles` how tables print the method, data set and model;
    both are not part of any id. `start` is the cell whose weights
    this one starts from. A `preparation` is no row of a table: it only supplies such a start.
    """

    method: str
    dataset: str
    model: str
    protocol: str
    seed: int
    overrides: dict[str, Any]
    identity: dict[str, Any]
    evaluation: tuple[dict[str, Any], ...]
    locations: dict[str, str]
    start: "Cell | None" = None
    preparation: bool = False
    titles: dict[str, str] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Hash of the identity."""
        return digest(self.identity)

    @cached_property
    def entry(self) -> str:
        """Hash of the identity without the seed: cells of one table entry share it."""
        return digest({key: value for key, value in self.identity.items() if key != "seed"})

    @property
    def slot(self) -> str:
        """What a reader calls the cell; several ids may have shared it over time."""
        return f"{self.method}.{self.dataset}.{self.model}.{self.protocol}.seed{self.seed}"

    @property
    def folder_name(self) -> str:
        return f"{self.slot}.{self.id}"

    def to_json(self) -> dict[str, Any]:
        """The content of `cell.json`."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "entry": self.entry,
            "method": self.method,
            "dataset": self.dataset,
            "model": self.model,
            "protocol": self.protocol,
            "seed": self.seed,
            "overrides": self.overrides,
            "identity": self.identity,
            "evaluation": list(self.evaluation),
            "locations": self.locations,
            "start": None if self.start is None else self.start.to_json(),
            "preparation": self.preparation,
            "titles": self.titles,
        }


def epochs_of(item: Mapping[str, Any], selected: Sequence[int], kept: Sequence[int]) -> tuple[int, ...]:
    """The checkpoints that an attack of `Cell.evaluation` is for, of the selected and of all kept epochs."""
    at = item.get("at", "selected")
    return tuple(selected)[-1:] if at == "last" else tuple(kept if at == "every" else selected)


def read_cell(folder: Path) -> Cell:
    """The cell of a run folder. Raises RecordError when its file is damaged or its id does not fit."""
    return cell_from(checked_cell(folder / "cell.json"), folder.name)


def cell_from(data: Mapping[str, Any], origin: str) -> Cell:
    """The cell that `Cell.to_json` wrote. Raises RecordError that names `origin`."""
    try:
        if data["schema"] != SCHEMA:
            raise SchemaError(
                f"{origin}: cell.json has schema {data['schema']!r}, this version reads {SCHEMA}.",
                hint="use the version of fairbench that wrote it, or move the folder away and run again",
            )
        cell = Cell(
            **{name: data[name] for name in ("method", "dataset", "model", "protocol", "seed", "overrides")},
            identity=data["identity"],
            evaluation=tuple(data["evaluation"]),
            locations=data["locations"],
            start=cell_from(data["start"], origin) if data.get("start") else None,
            preparation=bool(data.get("preparation")),
            titles=dict(data.get("titles") or {}),
        )
        fits = cell.id == data["id"]
    except SchemaError:
        raise
    except KeyError as error:
        raise RecordError(
            f"{origin}: cell.json lacks {error}.", hint="move the folder away and run again"
        ) from error
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{origin}: cell.json is damaged ({error}).", hint="move the folder away and run again"
        ) from error
    if not fits:
        raise RecordError(
            f"{origin}: cell.json was changed by hand: its id does not fit its content.",
            hint="move the folder away and run again; change settings with --set",
        )
    return cell


def training_protocol(cell: Cell) -> Protocol:
    """The schedule that a cell trains: its protocol's, or the shorter one of a fine-tuning."""
    protocol = Protocol.model_validate({**cell.identity["protocol"], "evaluation": []})
    if "fine_tune" not in cell.identity:
        return protocol
    tune = FineTune.model_validate(cell.identity["fine_tune"])
    rate = {"lr": tune.lr, "nesterov": tune.nesterov}
    return protocol.model_copy(
        update={
            "epochs": tune.epochs,
            "milestones": tune.milestones,
            "optimizer": protocol.optimizer.model_copy(update=rate),
            "selection": protocol.selection.model_copy(
                update={"last": min(protocol.selection.last, tune.epochs)}
            ),
        }
    )

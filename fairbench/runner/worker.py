"""The door to the heavy rooms: work on one run folder until its record is written.

The folder is the truth: `run_cell` starts it, resumes it or, when it is finished, does nothing.
"""

import logging
import shutil
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import torch

from fairbench.core.errors import (
    CheckpointError,
    ContractError,
    DivergedError,
    EnvironmentFault,
    FairbenchError,
    LeaseHeldError,
    RecordError,
    ResultsError,
    SchemaError,
)
from fairbench.core.files import make_folder, read_sealed, write_atomic, write_sealed
from fairbench.core.lease import Lease, hold_lease
from fairbench.data.images import ImageSet
from fairbench.data.manifest import Manifest
from fairbench.evaluation.progress import Progress
from fairbench.models.checkpoints import load_weights, read_tensors, weights_path
from fairbench.planning.cells import Cell, epochs_of, read_cell, training_protocol
from fairbench.planning.code_locations import located
from fairbench.planning.status import FINISHED, folder_state
from fairbench.records.checks import SCHEMA
from fairbench.records.curves import read_epochs
from fairbench.records.outcomes import outcome_name
from fairbench.records.read import CLEAN
from fairbench.registry import Registry, read_attack
from fairbench.registry.components import Augment, Averaging, WeightPerturbation
from fairbench.runner.builders import (
    augmentation,
    build_objective,
    component,
    initial_model,
    kept_images,
    load_split,
)
from fairbench.runner.device import (
    check_precision,
    choose_device,
    choose_threads,
    describe_device,
    is_memory_fault,
)
from fairbench.runner.evaluating import evaluate_into
from fairbench.runner.folders import prepare_folder
from fairbench.runner.logs import logged
from fairbench.runner.provenance import now, write_provenance
from fairbench.training.listener import Listener as TrainingListener
from fairbench.training.networks import Speedups
from fairbench.training.state import SavedStates
from fairbench.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Listener(TrainingListener, Interface):
    """Whoever shows the progress of a cell."""

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        """`attack` at the checkpoint of `epoch` is this far."""


def run_cell(folder: Path, listener: Listener, registry: Registry, device_name: str = "auto") -> str:
    """Work on the cell in `folder` with code of `registry`; the state it ends in (done, diverged or failed).

    A finished cell is left alone. Raises LeaseHeldError when another process works on it, PluginError when
    the registry does not have its code; every error of the cell itself ends up in its record.
    """
    cell = located(read_cell(folder), registry)
    with hold_lease(folder / "claim") as held, logged(folder):
        state, _ = folder_state(folder, cell)
        if state in FINISHED:
            if state == "done":  # whoever was killed behind the record did not come to that
                SavedStates(folder / "checkpoints").clear()
            return state
        kept = finished_record(folder)  # or SchemaError: what another version wrote is not ours to replace
        device = choose_device(device_name)
        check_precision(training_protocol(cell).precision, device)
        choose_threads(
            device, cell.identity["protocol"]["batch_size"], cell.identity["dataset"]["image_shape"]
        )
        write_provenance(folder, cell, Path(cell.locations["plugin"]), describe_device(device))
        logger.info("begins or continues on %s", device)
        try:
            record = _work(cell, folder, held, listener, registry, device)
        except (LeaseHeldError, ResultsError, EnvironmentFault):
            raise
        except DivergedError as error:
            record = {"state": "diverged", "reason": error.message, "epoch": error.epoch}
        except Exception as error:  # a plugin may raise anything; the record says what
            logger.debug("cell failed", exc_info=True)
            record = {"state": "failed", "reason": describe_fault(error, folder)}
            if is_memory_fault(error):
                record["fault"] = "memory"
        held.check()
        base = {"schema": 1, "id": cell.id, "entry": cell.entry, "reason": None}
        base |= {"evaluations": [], "warnings": [], "finished": now()}
        if kept is not None and record["state"] != "done":  # an attack added later failed: lose nothing
            record = {**kept, **record, "state": "done"}
            record["reason"] = f"a later evaluation failed: {record['reason']}"
            state = "failed"
        else:
            state = str(record["state"])
        write_sealed(folder / "record.json", {**base, **record})
        logger.info("ends as %s%s", state, f": {record['reason']}" if record["reason"] else "")
        if state == "done":
            SavedStates(folder / "checkpoints").clear()
        return "failed" if record["reason"] and state == "done" else state


def describe_fault(error: Exception, folder: Path) -> str:
    """What went wrong; the traceback of an error that is not ours goes to `error.txt`."""
    if isinstance(error, FairbenchError):
        return str(error)
    trace = "".join(traceback.format_exception(error))
    write_atomic(folder / "error.txt", lambda file: file.write(trace.encode()))
    return f"{type(error).__name__}: {error} (see error.txt)"


def finished_record(folder: Path) -> dict[str, Any] | None:
    """The record of a cell that is done, None otherwise. Raises SchemaError for one of another version."""
    try:
        record: dict[str, Any] = read_sealed(folder / "record.json")
        if record["schema"] != SCHEMA:
            raise SchemaError(
                f"{folder.name}: record.json has schema {record['schema']!r}, this version reads {SCHEMA}.",
                hint="use the version of fairbench that wrote it, or move the folder away and run again",
            )
    except SchemaError:
        raise
    except (RecordError, KeyError, TypeError):
        return None
    return record if record.get("state") == "done" else None


def _work(
    cell: Cell, folder: Path, held: Lease, listener: Listener, registry: Registry, device: torch.device
) -> dict[str, Any]:
    make_folder(folder / "checkpoints")
    for left_over in folder.rglob(".*.tmp"):  # of a process that was killed while it wrote
        if not left_over.name.startswith(".cell.json"):  # which others may write
            left_over.unlink(missing_ok=True)
    protocol = training_protocol(cell)
    train, manifest = load_split(cell, protocol, "train", device)
    test, _ = load_split(cell, protocol, "test", device)
    model = initial_model(cell, train, device)
    objective = build_objective(cell, train, device)
    trainer = Trainer(
        model=model,
        objective=objective,
        images=train,
        protocol=protocol,
        augmentation=augmentation(cell, protocol),
        seed=cell.seed,
        folder=folder,
        listener=listener,
        keep=kept_images(cell, train, objective),
        augment=component(cell, "augment", Augment),
        awp=component(cell, "awp", WeightPerturbation),
        averaging=component(cell, "averaging", Averaging),
        speedups=Speedups.of(
            device, protocol.epochs * -(-len(train) // protocol.batch_size), protocol.precision
        ),
        before_write=held.check,
    )
    selected = protocol.selection.epochs(protocol.epochs)
    kept = protocol.selection.kept(protocol.epochs)
    before = finished_record(folder)
    if before is None:
        _set_damaged_aside(trainer, kept)
    trained = (before is not None or len(read_epochs(folder)) >= protocol.epochs) and all(
        trainer.weights_path(epoch).exists() for epoch in kept
    )
    if not trained:
        if before is None:  # else they stay until there are others
            shutil.rmtree(folder / "outcomes", ignore_errors=True)  # of weights that are gone
        trainer.run(partial(_begin, cell, model, folder, listener, registry, device))
    trained_in = sum(row["seconds"] for row in read_epochs(folder))
    began = time.perf_counter()
    evaluations: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for epoch in kept:
        items = [item for item in cell.evaluation if epoch in epochs_of(item, selected, kept)]
        if not items and epoch not in selected:
            continue
        held.check()
        weights, _ = read_tensors(trainer.weights_path(epoch), device)
        load_weights(model, weights, str(trainer.weights_path(epoch)))
        evaluations += _evaluate_epoch(
            model, test, [{"name": CLEAN, "id": CLEAN}, *items], epoch, folder, held, listener, failed
        )
    return {
        "state": "done",
        "reason": "; ".join(failed.values()) or None,
        "epoch": protocol.epochs,
        "num_classes": test.num_classes,
        "class_names": list(test.classes),
        "class_count": torch.bincount(test.labels.cpu(), minlength=test.num_classes).tolist(),
        "epochs_evaluated": list(selected),
        "epochs_kept": list(kept),
        "evaluations": [item for item in evaluations if item["id"] not in failed],
        "training": ((before or {}).get("training") if trained else None) or trainer.about(),
        "warnings": [*_warnings(cell, manifest), *trainer.warnings(), *_findings(evaluations)],
        "seconds": {"train": round(trained_in, 3), "evaluate": round(time.perf_counter() - began, 3)},
    }


def _evaluate_epoch(
    model: torch.nn.Module,
    test: ImageSet,
    items: Sequence[dict[str, Any]],
    epoch: int,
    folder: Path,
    held: Lease,
    listener: Listener,
    failed: dict[str, str],
) -> list[dict[str, Any]]:
    """The record's lines of `items` at one checkpoint; one that fails is noted in `failed` by id."""
    before = (finished_record(folder) or {}).get("evaluations", ())
    digests = {line["file"]: line["digest"] for line in before}
    lines = []
    for item in items:
        name, clean = item["name"], item["id"] == CLEAN
        if item["id"] in failed:
            continue
        file = f"outcomes/epoch-{epoch:04d}/{CLEAN if clean else outcome_name(name, item['id'])}.npy"
        try:
            line = evaluate_into(
                folder / file,
                model,
                test,
                None if clean else read_attack(item),
                progress=partial(listener.evaluation, name, epoch),
                expected=digests.get(file),
                check=held.check,
            )
        except Exception as error:  # one attack that fails leaves the others' outcomes alone
            if clean or isinstance(error, ResultsError | LeaseHeldError) or is_memory_fault(error):
                raise
            logger.debug("%s failed", name, exc_info=True)
            failed[item["id"]] = f"{name}: {describe_fault(error, folder)}"
        else:
            lines.append({"attack": name, "id": item["id"], "epoch": epoch, "file": file, **line})
    return lines


def _set_damaged_aside(trainer: Trainer, kept: Sequence[int]) -> None:
    """Weights of a cell at work that cannot be read are trained again."""
    for path in map(trainer.weights_path, kept):
        try:
            if path.exists():
                read_tensors(path)
        except CheckpointError as error:
            logger.warning("%s It is set aside and trained again.", error.message)
            trainer.states.lost.append(f"{path.name} was damaged")
            path.replace(path.with_suffix(".damaged"))


def _begin(
    cell: Cell,
    model: torch.nn.Module,
    folder: Path,
    listener: Listener,
    registry: Registry,
    device: torch.device,
) -> None:
    """Load the weights that the cell starts from, should there be any; train those first where need be.

    Raises ContractError when the start did not end well.
    """
    start = cell.start
    if start is None:
        return
    beside = prepare_folder(start, folder.parent.parent)
    path = weights_path(beside, training_protocol(start).epochs)
    if finished_record(beside) is not None and not path.exists():  # its weights were cleared away
        (beside / "record.json").unlink()
    state = run_cell(beside, listener, registry, device.type)
    if state != "done":
        raise ContractError(
            f"its start, {start.method}, ended as {state}.", hint=f"see {beside / 'record.json'}"
        )
    weights, _ = read_tensors(path, device)
    load_weights(model, weights, str(path))


def _findings(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """What the health checks of the evaluations found, each finding once."""
    texts = [
        f"{line['attack']}: {finding['text']}"
        for line in evaluations
        for finding in line["about"].get("health", ())
    ]
    return list(dict.fromkeys(texts))


def _warnings(cell: Cell, manifest: Manifest | None) -> list[str]:
    """What the reader of a table must know: data that are not the official ones, a warm-up without an end."""
    found = []
    if manifest is not None and not manifest.official:
        found.append(f"{cell.dataset} is not the official data set")
    epochs, warmup = training_protocol(cell).epochs, cell.identity["method"]["config"].get("warmup_epochs")
    if isinstance(warmup, int) and warmup >= epochs:
        found.append(f"warmup_epochs={warmup} lasts to the end of the run ({epochs} epochs)")
    return found

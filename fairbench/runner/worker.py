"""The door to the heavy rooms: work on one run folder until its record is written.

The folder is the truth: `run_cell` starts it, resumes it or, when it is finished, does nothing.
"""

import logging
import shutil
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from typing import Protocol as Interface

import torch

from fairbench.core.claims import Claim, claim
from fairbench.core.errors import (
    ClaimedError,
    ContractError,
    DivergedError,
    EnvironmentFault,
    FairbenchError,
    PluginError,
    RecordError,
    ResultsError,
)
from fairbench.core.files import make_folder, read_json, write_atomic, write_json
from fairbench.core.seeds import derive_seed
from fairbench.data.holdout import training_mask
from fairbench.data.images import ImageSet, load_images
from fairbench.data.manifest import Manifest, data_root, read_manifest
from fairbench.data.stream import Augmentation
from fairbench.evaluation.progress import Progress
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights, read_tensors, weights_path
from fairbench.objectives.contract import AdversarialObjective, DataInfo, build_config
from fairbench.objectives.load import load_plugin
from fairbench.plan.cells import Cell, epochs_of, read_cell, training_protocol
from fairbench.plan.status import FINISHED, folder_state
from fairbench.records.curves import read_epochs
from fairbench.records.outcomes import outcome_name
from fairbench.records.read import CLEAN
from fairbench.registry import Protocol, describe, locate, read_attack
from fairbench.registry.components import Augment, Averaging, HoldOut, WeightPerturbation, refusal
from fairbench.registry.fields import Model
from fairbench.runner.device import check_precision, choose_device, choose_threads, describe_device
from fairbench.runner.evaluating import evaluate_into
from fairbench.runner.folders import prepare_folder
from fairbench.runner.provenance import now, write_provenance
from fairbench.training.networks import Speedups
from fairbench.training.trainer import Listener as TrainingListener
from fairbench.training.trainer import Trainer

logger = logging.getLogger(__name__)
Block = TypeVar("Block", bound=Model)


class Listener(TrainingListener, Interface):
    """Whoever shows the progress of a cell."""

    def evaluation(self, attack: str, epoch: int, progress: Progress) -> None:
        """`attack` at the checkpoint of `epoch` is this far."""


def run_cell(folder: Path, listener: Listener, device_name: str = "auto") -> str:
    """Work on the cell in `folder`; the state it ends in (done, diverged or failed).

    A finished cell is left alone. Raises ClaimedError when another process works on it; every
    error of the cell itself ends up in its record.
    """
    cell = read_cell(folder)
    with claim(folder / "claim") as held:
        state, _ = folder_state(folder, cell)
        if state in FINISHED:
            return state
        kept = finished_record(folder)
        device = choose_device(device_name)
        check_precision(training_protocol(cell).precision, device)
        choose_threads(
            device, cell.identity["protocol"]["batch_size"], cell.identity["dataset"]["image_shape"]
        )
        write_provenance(folder, cell, plugin_file(cell), describe_device(device))
        try:
            record = _work(cell, folder, held, listener, device)
        except (ClaimedError, ResultsError, EnvironmentFault):
            raise
        except DivergedError as error:
            record = {"state": "diverged", "reason": error.message, "epoch": error.epoch}
        except FairbenchError as error:
            record = {"state": "failed", "reason": str(error)}
        except Exception as error:  # a plugin may raise anything; the record says what
            logger.debug("cell failed", exc_info=True)
            record = {"state": "failed", "reason": describe_fault(error, folder)}
        held.check()
        base = {"schema": 1, "id": cell.id, "entry": cell.entry, "reason": None}
        base |= {"evaluations": [], "warnings": [], "finished": now()}
        if kept is not None and record["state"] != "done":  # an attack added later failed: lose nothing
            record = {**kept, "reason": f"a later evaluation failed: {record['reason']}"}
            state = "failed"
        else:
            state = str(record["state"])
        write_json(folder / "record.json", {**base, **record})
        if state == "done":
            (folder / "checkpoints" / "resume.safetensors").unlink(missing_ok=True)
        return "failed" if record["reason"] and state == "done" else state


def describe_fault(error: Exception, folder: Path) -> str:
    """What went wrong; the traceback of an error that is not ours goes to `error.txt`."""
    if isinstance(error, FairbenchError):
        return str(error)
    trace = "".join(traceback.format_exception(error))
    write_atomic(folder / "error.txt", lambda file: file.write(trace.encode()))
    return f"{type(error).__name__}: {error} (see error.txt)"


def finished_record(folder: Path) -> dict[str, Any] | None:
    """The record of a cell that is done, None otherwise."""
    try:
        record: dict[str, Any] = read_json(folder / "record.json")
    except RecordError:
        return None
    return record if record.get("state") == "done" else None


def _work(cell: Cell, folder: Path, held: Claim, listener: Listener, device: torch.device) -> dict[str, Any]:
    checkpoints = make_folder(folder / "checkpoints")
    for left_over in checkpoints.glob(".*.tmp"):  # of a process that was killed while it wrote
        left_over.unlink()
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
        augmentation=_augmentation(cell, protocol),
        seed=cell.seed,
        folder=folder,
        listener=listener,
        keep=kept_images(cell, train, objective),
        augment=_block(cell, "augment", Augment),
        awp=_block(cell, "awp", WeightPerturbation),
        averaging=_block(cell, "averaging", Averaging),
        speedups=Speedups.of(device, protocol.epochs * -(-len(train) // protocol.batch_size)),
        before_write=held.check,
    )
    selected = protocol.selection.epochs(protocol.epochs)
    kept = protocol.selection.kept(protocol.epochs)
    trained = len(read_epochs(folder)) >= protocol.epochs and all(
        trainer.weights_path(epoch).exists() for epoch in kept
    )
    if not trained:
        shutil.rmtree(folder / "outcomes", ignore_errors=True)  # of weights that are gone
        if cell.start is not None and not trainer.state_path.exists():
            load_start(cell.start, model, folder, listener, device)
        trainer.run()
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
        "training": ((finished_record(folder) or {}).get("training") if trained else None) or trainer.about(),
        "warnings": [*_warnings(cell, manifest), *trainer.warnings(), *_findings(evaluations)],
        "seconds": {"train": round(trained_in, 3), "evaluate": round(time.perf_counter() - began, 3)},
    }


def _evaluate_epoch(
    model: torch.nn.Module,
    test: ImageSet,
    items: Sequence[dict[str, Any]],
    epoch: int,
    folder: Path,
    held: Claim,
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
            if clean or isinstance(error, ResultsError | ClaimedError):
                raise
            logger.debug("%s failed", name, exc_info=True)
            failed[item["id"]] = f"{name}: {describe_fault(error, folder)}"
        else:
            lines.append({"attack": name, "id": item["id"], "epoch": epoch, "file": file, **line})
    return lines


def initial_model(cell: Cell, images: ImageSet, device: torch.device) -> torch.nn.Module:
    """The cell's network with the initial weights of its seed."""
    return build_model(
        cell.locations["model"], images.num_classes, images.image_shape, derive_seed(cell.seed, "init")
    ).to(device)


def trained_model(
    cell: Cell, folder: Path, epoch: int, images: ImageSet, device: torch.device
) -> torch.nn.Module:
    """The network of the cell in `folder` as it was evaluated at `epoch`. Raises CheckpointError."""
    model = initial_model(cell, images, device)
    path = weights_path(folder, epoch)
    weights, _ = read_tensors(path, device)
    load_weights(model, weights, str(path))
    return model


def load_split(
    cell: Cell, protocol: Protocol, split: str, device: torch.device
) -> tuple[ImageSet, Manifest | None]:
    """One split of the cell's data set; refuses data other than the cell was planned with."""
    facts, root = cell.identity["dataset"], Path(cell.locations["data_root"])
    if not root.exists():  # the folder came here from another machine
        root = data_root(None)
    manifest = None if facts["reader"] == "digits" else read_manifest(root, facts["name"])
    subset = protocol.subset
    per_class = None
    if subset is not None:
        per_class = subset.train_per_class if split == "train" else subset.test_per_class
    images = load_images(
        facts["name"],
        split,
        root=root,
        device=device,
        reader=facts["reader"],
        subset_per_class=per_class,
        expected_digest=facts["digest"],
    )
    return images, manifest


def kept_images(cell: Cell, train: ImageSet, objective: AdversarialObjective) -> torch.Tensor | None:
    """Which images (N,) are trained on; None when the cell holds none out.

    Raises ContractError when the method needs held-out images and its source does not say so.
    """
    block = cell.identity.get("hold_out")
    if block is None:
        if objective.resolved_needs().validation is not None:
            raise ContractError(
                f"method {cell.method!r} needs held-out images, but the plan could not read that.",
                hint='write Needs(validation="start") (or "end") in its class',
            )
        return None
    chosen = HoldOut.model_validate(block)
    return training_mask(
        train.labels,
        train.num_classes,
        share=chosen.share,
        min_per_class=chosen.min_per_class,
        pick=chosen.pick,
        seed=cell.seed,
    )


def load_start(
    start: Cell, model: torch.nn.Module, folder: Path, listener: Listener, device: torch.device
) -> None:
    """Load the weights that the start's cell ended with; train it first where that was not done.

    Raises ContractError when the start did not end well.
    """
    beside = prepare_folder(start, folder.parent.parent)
    path = weights_path(beside, training_protocol(start).epochs)
    if finished_record(beside) is not None and not path.exists():  # its weights were cleared away
        (beside / "record.json").unlink()
    state = run_cell(beside, listener, device.type)
    if state != "done":
        raise ContractError(
            f"its start, {start.method}, ended as {state}.", hint=f"see {beside / 'record.json'}"
        )
    weights, _ = read_tensors(path, device)
    load_weights(model, weights, str(path))


def build_objective(cell: Cell, train: ImageSet, device: torch.device) -> AdversarialObjective:
    """The cell's method, configured. Raises PluginError or ContractError when it cannot be had."""
    check_fingerprint(cell)
    cls = load_plugin(cell.locations["target"], cell.method)
    counts = torch.bincount(train.labels.cpu(), minlength=train.num_classes).tolist()
    info = DataInfo(num_classes=train.num_classes, class_count=tuple(counts), image_shape=train.image_shape)
    return cls(build_config(cls, cell.identity["method"]["config"]), info, device)


def check_options(cell: Cell) -> None:
    """Raise ConfigError when the method refuses its options or mixed images.

    A plugin that cannot be loaded is let pass. So a mistake on the command line stops it before anything
    runs; the record of the cell says the rest.
    """
    with suppress(PluginError, ContractError):
        cls = load_plugin(cell.locations["target"], cell.method)
        needs = cls.needs_of(build_config(cls, cell.identity["method"]["config"]))
        augment = _block(cell, "augment", Augment)
        if augment is not None and augment.mixes and needs.one_label:
            raise refusal(cell.method, augment.kind)


def check_fingerprint(cell: Cell) -> None:
    """Raise PluginError when the method's code is not what the cell was planned with."""
    path, class_name = plugin_file(cell), cell.locations["target"].rpartition(":")[2]
    if describe(path, class_name).fingerprint != cell.identity["method"]["fingerprint"]:
        raise PluginError(
            f"the code of method {cell.method!r} changed since this cell was planned ({path}).",
            hint="plan it anew with fairbench run, which makes a new folder, or undo the change",
        )


def plugin_file(cell: Cell) -> Path:
    """The plugin's source: where it was planned, or where this machine has it."""
    path = Path(cell.locations["plugin"])
    return path if path.exists() else locate(cell.locations["target"])


def _block(cell: Cell, name: str, model: type[Block]) -> Block | None:
    """A block of the house as the cell has it; None when it has none."""
    found = cell.identity.get(name)
    return None if found is None else model.model_validate(found)


def _augmentation(cell: Cell, protocol: Protocol) -> Augmentation:
    chosen = protocol.augmentation
    return Augmentation(
        crop_padding=chosen.crop_padding,
        padding=chosen.padding,
        flip=chosen.flip and cell.identity["dataset"]["flip"],
    )


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

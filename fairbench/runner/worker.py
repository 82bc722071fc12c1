"""Work on one run folder until its record is written: train, then evaluate.

The folder is the truth: `run_cell` starts it, resumes it or, when it is finished, does nothing.
"""

import logging
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from fairbench.core.errors import (
    ContractError,
    DivergedError,
    EnvironmentFault,
    FairbenchError,
    LeaseHeldError,
    ResultsError,
)
from fairbench.core.files import make_folder
from fairbench.core.lease import Lease
from fairbench.data.images import ImageSet
from fairbench.data.manifest import Manifest
from fairbench.models.checkpoints import load_weights, read_tensors
from fairbench.objectives.contract import AdversarialObjective
from fairbench.planning.code_locations import located
from fairbench.planning.method_components import missing_teacher
from fairbench.records.cell import CLEAN, Cell, EvaluationAttack
from fairbench.records.progress import ProgressListener
from fairbench.records.read import Evaluation, FailedEvaluation, Record
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import RunFolder
from fairbench.records.status import Status
from fairbench.registry import Registry
from fairbench.registry.trained_weights import FINE_TUNE
from fairbench.runner.builders import (
    augmentation,
    build_objective,
    initial_model,
    kept_images,
    load_split,
    trained_model,
)
from fairbench.runner.cell_time import CellTime
from fairbench.runner.device import (
    check_precision,
    choose_device,
    choose_threads,
    describe_device,
    is_memory_fault,
)
from fairbench.runner.evaluating import evaluate_into
from fairbench.runner.given_weights import file_teacher, load_start
from fairbench.runner.logs import logged
from fairbench.runner.provenance import now, provenance
from fairbench.training.checkpointing import Checkpoints
from fairbench.training.networks import Speedups
from fairbench.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run_cell(
    folder: Path, listener: ProgressListener, registry: Registry, device_name: str = "auto"
) -> Status:
    """Work on the cell in `folder` with code of `registry`; the status it ends in.

    A finished cell is left alone. Raises LeaseHeldError when another process works on it, PluginError when
    the registry does not have its code; every error of the cell itself ends up in its record.
    """
    run = RunFolder(folder)
    run.require_plain()
    located(run.read_cell(), registry)  # raises what is wrong with it before anything is written
    with run.lease() as lease, logged(run.log_file):
        cell = located(run.read_cell(), registry)
        status = run.recorded()
        if status.finished:
            if status.state == "done":  # a worker killed after writing the record leaves its states
                Checkpoints(run).clear_states()
            return status
        before = run.trained()
        device = choose_device(device_name)
        check_precision(cell.training_protocol.precision, device)
        choose_threads(device, cell.training_protocol.batch_size, cell.images.image_shape)
        run.write_attempt(provenance(cell, describe_device(device)))
        logger.info("begins or continues on %s", device)
        try:
            record = CellWork(cell, run, before, lease, listener, registry, device).record()
        except (LeaseHeldError, ResultsError, EnvironmentFault):
            raise
        except DivergedError as error:
            record = Record(folder, cell, "diverged", error.message, error.epoch)
        except Exception as error:  # a plugin may raise anything; it is recorded
            logger.debug("cell failed", exc_info=True)
            fault = "memory" if is_memory_fault(error) else ""
            record = Record(folder, cell, "failed", describe_fault(error, run), fault=fault)
        finally:
            run.clear_progress()
        lease.check()
        if before is not None and record.state != "done":  # training was done before: keep its record
            record = _with_failures(before, cell, record)
        run.list_attacks(cell.evaluation)
        run.write_record(replace(record, finished=now()))
        status = run.recorded(cell)
        logger.info("ends as %s%s", status.state, f": {status.reason}" if status.reason else "")
        if status.state == "done":
            Checkpoints(run).clear_states()
        return status


def describe_fault(error: Exception, run: RunFolder) -> str:
    """What went wrong; the traceback of an error that is not fairbench's goes to the run folder."""
    if isinstance(error, FairbenchError):
        return str(error)
    run.write_error("".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {error} (see {run.error_file.name})"


def _with_failures(before: Record, cell: Cell, ended: Record) -> Record:
    """The record of before, with the reason why the evaluations that it lacks were not done."""
    there = {(each.id, each.epoch) for each in before.evaluations if (before.folder / each.file).exists()}
    failures = []
    for attack in cell.evaluations(before.num_classes):
        epochs = attack.epochs(before.epochs_evaluated, before.epochs_kept)
        lacking = [epoch for epoch in epochs if (attack.id, epoch) not in there]
        if lacking:
            failures.append(FailedEvaluation(attack.name, attack.id, lacking[0], ended.reason))
    return replace(before, failures=tuple(failures), fault=ended.fault)


@dataclass
class CellWork:
    """What is done for a cell under its lease. `before` is its record, when training was done before."""

    cell: Cell
    run: RunFolder
    before: Record | None
    lease: Lease
    listener: ProgressListener
    registry: Registry
    device: torch.device
    evaluations: dict[tuple[str, int], Evaluation] = field(default_factory=dict)  # by attack id and epoch
    failures: dict[str, FailedEvaluation] = field(default_factory=dict)  # by attack id, "clean" included
    fault: str = ""

    def __post_init__(self) -> None:
        self.shown = CellTime(self.cell, self.run, self.listener, self.registry)

    def record(self) -> Record:
        """Train, unless that is done, and evaluate; returns the record of a finished training.

        Raises DivergedError, and what a method raises.
        """
        make_folder(self.run.checkpoints, parents=False)
        self.run.remove_temporary_files()
        cell, protocol = self.cell, self.cell.training_protocol
        train, manifest = load_split(cell, "train", self.device)
        test, _ = load_split(cell, "test", self.device)
        model = initial_model(cell, train, self.device)
        trainer = self._trainer(model, train)
        trained = self._train(trainer, model)
        trained_in = sum(row["seconds"] for row in self.run.read_epochs())
        began = time.perf_counter()
        self._evaluate(model, test, keep_earlier=trained)
        evaluations = tuple(self.evaluations.values())
        about = self.before.training if self.before is not None and trained else {}
        return Record(
            self.run.path,
            cell,
            "done",
            epoch=protocol.epochs,
            fault=self.fault,
            num_classes=test.num_classes,
            class_names=tuple(test.classes),
            class_count=tuple(
                torch.bincount(test.labels.cpu(), minlength=test.num_classes).tolist(),
            ),
            epochs_evaluated=cell.selected_epochs,
            epochs_kept=cell.kept_epochs,
            evaluations=evaluations,
            failures=tuple(self.failures.values()),
            training=about or trainer.about(),
            warnings=(*_warnings(cell, manifest), *trainer.warnings(), *_findings(evaluations)),
            seconds={"train": round(trained_in, 3), "evaluate": round(time.perf_counter() - began, 3)},
            curve=self.run.curve_digest(),
        )

    def _trainer(self, model: torch.nn.Module, train: ImageSet) -> Trainer:
        cell, protocol, components = self.cell, self.cell.training_protocol, self.cell.components
        objective = build_objective(cell, train, self.device)
        return Trainer(
            model=model,
            objective=objective,
            images=train,
            protocol=protocol,
            augmentation=augmentation(cell),
            seed=cell.seed,
            run_folder=self.run,
            listener=self.shown,
            keep=kept_images(cell, train, objective),
            augment=components.augment,
            awp=components.awp,
            averaging=components.averaging,
            speedups=Speedups.of(self.device, protocol, len(train)),
            before_write=self.lease.check,
            teachers=partial(self._teachers, objective, train),
        )

    def _train(self, trainer: Trainer, model: torch.nn.Module) -> bool:
        """Train unless all weights are there already; whether they were."""
        epochs = self.cell.training_protocol.epochs
        if self.before is None:
            trainer.checkpoints.set_damaged_aside()
        over = self.before is not None or len(self.run.read_epochs()) >= epochs
        if over and trainer.checkpoints.has_weights(epochs):
            return True
        if self.before is None:  # else they stay until there are others
            shutil.rmtree(self.run.outcomes, ignore_errors=True)  # of weights that are gone
        trainer.run(partial(self._begin, model))
        return False

    def _evaluate(self, model: torch.nn.Module, test: ImageSet, *, keep_earlier: bool) -> None:
        """Fill `evaluations` and `failures`, checkpoint after checkpoint.

        With `keep_earlier`, evaluations of the record of before stay. Of an evaluation that fails now, only
        those are recorded: a mean over some of its checkpoints would be another number.
        """
        make_folder(self.run.outcomes, parents=False)
        earlier: dict[tuple[str, int], Evaluation] = {}
        if self.before is not None:
            lines = (line for line in self.before.evaluations if (self.run.path / line.file).exists())
            earlier = {(line.id, line.epoch): line for line in lines}
        evaluated: dict[tuple[str, int], Evaluation] = {}
        selected, kept = self.cell.selected_epochs, self.cell.kept_epochs
        required = self.cell.evaluations(test.num_classes)
        for epoch in kept:
            attacks = [each for each in required if epoch in each.epochs(selected, kept)]
            if not attacks:
                continue
            self.lease.check()
            path = self.run.weights_file(epoch)
            weights, _ = read_tensors(path, self.device)
            load_weights(model, weights, str(path))
            for attack in attacks:
                line = self._evaluate_one(model, test, attack, epoch, earlier)
                if line is not None:
                    evaluated[line.id, epoch] = line
        stay = earlier if keep_earlier else {}
        complete = {key: line for key, line in evaluated.items() if key[0] not in self.failures}
        failed_now = {(failure.id, failure.epoch) for failure in self.failures.values()}
        both = {key: line for key, line in {**stay, **complete}.items() if key not in failed_now}
        self.evaluations = dict(sorted(both.items(), key=lambda item: item[1].epoch))

    def _evaluate_one(
        self,
        model: torch.nn.Module,
        test: ImageSet,
        attack: EvaluationAttack,
        epoch: int,
        earlier: dict[tuple[str, int], Evaluation],
    ) -> Evaluation | None:
        """One evaluation; None, and a line in `failures`, for one that fails."""
        name, id = attack.name, attack.id
        if id in self.failures:
            return None
        files = self.run.outcome_files(attack, epoch)
        known = earlier.get((id, epoch))
        try:
            line = evaluate_into(
                files,
                model,
                test,
                None if name == CLEAN else attack.attack,
                progress=partial(self.shown.evaluation, name, epoch),
                expected=None if known is None else known.digest,
                check=self.lease.check,
            )
        except (ResultsError, LeaseHeldError):
            raise
        except Exception as error:  # one evaluation that fails leaves the others' outcomes alone
            logger.debug("%s failed", name, exc_info=True)
            if is_memory_fault(error):
                self.fault = "memory"
            self.failures[id] = FailedEvaluation(name, id, epoch, describe_fault(error, self.run))
            return None
        file = files.rows.relative_to(self.run.path).as_posix()
        return Evaluation(name, epoch, file, id=id, **line)

    def _begin(self, model: torch.nn.Module) -> None:
        """Load the weights that the cell starts from, if any; train their cell first if it is not trained.

        Raises ContractError when that training failed, CheckpointError for a file that does not fit.
        """
        if FINE_TUNE in self.cell.locations:
            load_start(model, self.cell, self.registry)
        if self.cell.start is not None:
            path = self._trained(self.cell.start, "start").weights_file(self._last_epoch(self.cell.start))
            weights, _ = read_tensors(path, self.device)
            load_weights(model, weights, str(path))

    def _teachers(self, objective: AdversarialObjective, images: ImageSet) -> dict[str, torch.nn.Module]:
        """The networks that the method learns from, by name; they are trained first if they are not yet.

        Raises ConfigError for one that is missing, and as `_begin` does.
        """
        teachers = {}
        for name in sorted(objective.resolved_needs().teachers):
            cell = self.cell.teachers.get(name)
            if cell is not None:
                run = self._trained(cell, name)
                teachers[name] = trained_model(cell, run, self._last_epoch(cell), images, self.device)
            elif name in self.cell.locations:
                teachers[name] = file_teacher(self.cell, name, images, self.registry, self.device)
            else:
                raise missing_teacher(self.cell.method, name)
        return teachers

    def _trained(self, cell: Cell, role: str) -> RunFolder:
        """The trained run of a cell whose weights this one needs; trained now if it is not yet.

        Raises ContractError when its training failed.
        """
        beside = ResultsFolder(self.run.path.parent.parent).prepare(cell)
        weights = beside.weights_file(self._last_epoch(cell))
        with beside.lease():
            if beside.trained() is not None and not weights.exists():  # they were cleared away
                beside.begin_anew()
        status = run_cell(beside.path, self.listener, self.registry, str(self.device))
        if beside.trained() is None:
            raise ContractError(
                f"its {role.replace('_', ' ')}, {cell.method}, ended as {status.state}.",
                hint=f"see {beside.record_file}",
            )
        return beside

    def _last_epoch(self, cell: Cell) -> int:
        return cell.training_protocol.epochs


def _findings(evaluations: Sequence[Evaluation]) -> list[str]:
    """What the health checks of the evaluations found, each finding once."""
    texts = [
        f"{line.attack}: {finding['text']}"
        for line in evaluations
        for finding in line.about.get("health", ())
    ]
    return list(dict.fromkeys(texts))


def _warnings(cell: Cell, manifest: Manifest | None) -> list[str]:
    """Warnings for readers of tables: data that are not the official ones, a warm-up without an end."""
    warnings = []
    if manifest is not None and not manifest.official:
        warnings.append(f"{cell.dataset} is not the official data set")
    if manifest is not None and manifest.num_shared and cell.images.reader in ("folder", "npz"):
        shared = f"{manifest.num_shared} of {manifest.test_size} test images"
        warnings.append(f"{shared} of {cell.dataset} are training images too")
    epochs, warmup = cell.training_protocol.epochs, cell.code.config.get("warmup_epochs")
    if isinstance(warmup, int) and warmup >= epochs:
        warnings.append(f"warmup_epochs={warmup} lasts to the end of the run ({epochs} epochs)")
    return warnings

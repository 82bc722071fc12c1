"""Export a run's model: its weights, a file that builds its network, and its entry for RobustBench.

Layout     FOLDER/model.py, FOLDER/model.safetensors or FOLDER/<dataset>/<threat>/<Name>.pt (where robustbench
           looks for models), and FOLDER/model_info/<dataset>/<threat>/<Name>.json.
Source     The format of the entries in RobustBench (Croce et al., 2021, arXiv 2010.09670).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fairbench.core.errors import ConfigError, RecordError
from fairbench.core.files import make_folder, write_atomic, write_json
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights, read_tensors, write_tensors
from fairbench.planning.code_locations import with_network
from fairbench.records.attack_strength import is_autoattack
from fairbench.records.cell import CLEAN
from fairbench.records.read import Record
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import RunFolder
from fairbench.registry import MethodEntry, Registry
from fairbench.registry.schema import Paper

Format = Literal["robustbench", "safetensors"]
THREATS = {"linf": "Linf", "l2": "L2"}  # RobustBench's names
LISTED = ("cifar10", "cifar100", "imagenet")  # RobustBench's data sets
PAPERS_RADIUS = 0.031  # RobustBench lists such models with a footnote


@dataclass(frozen=True)
class Export:
    """The files written. weights, builder: make the model; info: describes it; notes: what is left to do."""

    weights: Path
    builder: Path
    info: Path
    notes: tuple[str, ...]


def export(
    run: RunFolder,
    to: Format,
    registry: Registry,
    results: Path,
    out: Path | None = None,
    epoch: int | None = None,
) -> Export:
    """The files of the model of `run` at `epoch`, by default the last one evaluated.

    out: the folder to write, by default one in RESULTS/exports. Accuracies are those of that one epoch, from
    the record's own outcomes. Raises RecordError when the run is not done, CheckpointError without its
    weights, ConfigError without its network or the epoch.
    """
    record = run.read()
    if record.state != "done":
        raise RecordError(
            f"{run.name} is {record.state}: there is no model to export.", hint="see: fairbench status"
        )
    epoch = chosen_epoch(record, epoch)
    model, target = rebuild(record, registry, epoch)
    entry = registry.methods.get(record.method)
    architecture = record.model
    if record.model in registry.models:
        architecture = registry.models[record.model].title or record.model
    out = out or ResultsFolder(results).exports / f"{run.name}.epoch-{epoch:04d}"
    name = robustbench_name(record.method, entry, architecture)
    threat = THREATS[record.cell.full_protocol.threat.norm]
    place = Path(record.dataset) / threat
    info, notes = describe(record, epoch, entry, architecture)
    weights = out / place / f"{name}.pt" if to == "robustbench" else out / "model.safetensors"
    files = Export(weights, out / "model.py", out / "model_info" / place / f"{name}.json", tuple(notes))
    make_folder(weights.parent)
    make_folder(files.info.parent)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    if to == "robustbench":
        write_atomic(weights, lambda file: torch.save(tensors, file))
    else:
        write_tensors(weights, tensors, {"run": run.name, "epoch": epoch})
    source = write_network(out, target)
    text = builder_text(record, epoch, source, files)
    if to == "robustbench":
        text += entry_text(record, name)
    write_atomic(files.builder, lambda file: file.write(text.encode()))
    write_json(files.info, info)
    return files


def chosen_epoch(record: Record, epoch: int | None) -> int:
    """`epoch`, by default the last one evaluated. Raises ConfigError when it was not evaluated."""
    known = sorted({item.epoch for item in record.evaluations if item.attack == CLEAN})
    if epoch is None and record.epochs_evaluated:
        return record.epochs_evaluated[-1]
    if epoch is None or epoch not in known:
        raise ConfigError(
            f"{record.folder.name} was not evaluated at epoch {epoch}.",
            hint=f"--epoch is one of: {', '.join(map(str, known))}",
        )
    return epoch


def rebuild(record: Record, registry: Registry, epoch: int) -> tuple[torch.nn.Module, str]:
    """The network with the weights of `epoch`, and its target: "module:function" or "file:function"."""
    run = RunFolder(record.folder)
    path = run.weights_file(epoch)
    weights, _ = read_tensors(path)
    target = with_network(run.read_cell(), registry).locations["model"]
    model = build_model(target, record.num_classes, record.cell.images.image_shape, seed=0)
    load_weights(model, weights, str(path))
    return model, target


def robustbench_name(method: str, entry: MethodEntry | None, architecture: str) -> str:
    """A name as in RobustBench: first author, year and first word of the title, method, architecture.

    The method is left out where the paper stands for it: in an entry that does not extend another.
    """
    paper = entry.paper if entry else None
    parts = [architecture]
    if entry is None or entry.extends is not None or paper is None or not (paper.authors and paper.title):
        parts.insert(0, method)
    if paper is not None and paper.authors and paper.title:
        author = paper.authors.split(",")[0].split()[-1]
        parts.insert(0, author + year_of(paper) + re.split(r"\W+", paper.title.strip())[0])
    return "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts)


def year_of(paper: Paper) -> str:
    """The year of publication, "" when unknown."""
    if year := re.search(r"\b(19|20)\d\d\b", paper.venue or ""):
        return year[0]
    return f"20{paper.arxiv[:2]}" if paper.arxiv else ""


def describe(
    record: Record, epoch: int, entry: MethodEntry | None, architecture: str
) -> tuple[dict[str, Any], list[str]]:
    """RobustBench's JSON about the checkpoint of `epoch`, and notes on what to fill in."""
    threat = record.cell.full_protocol.threat
    trained, norm = threat.eps, threat.norm
    results = _robust_accuracies(record, epoch)
    autoattack = []
    if record.cell.full_protocol.subset is None:
        autoattack = [r for r in results if is_autoattack(r.settings) and r.norm == norm]
    eps = autoattack[-1].eps if autoattack else trained
    reported = [result.accuracy for result in results if (result.norm, result.eps) == (norm, eps)]
    paper = (entry.paper if entry else None) or Paper()
    official = entry.official.repo if entry and entry.official else None
    link = f"https://github.com/{official}" if official else ""
    info = {
        "link": f"https://arxiv.org/abs/{paper.arxiv}" if paper.arxiv else link,
        "name": paper.title or record.method,
        "authors": paper.authors or "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": record.dataset,
        "venue": paper.venue or "Unpublished",
        "architecture": architecture,
        "eps": fraction(eps),
        "clean_acc": percent(accuracy(record, CLEAN, epoch)),
        "reported": percent(min(reported)) if reported else None,
        "autoattack_acc": percent(autoattack[-1].accuracy) if autoattack else None,
    }
    if trained != eps:
        info["footnote"] = f"Trained with radius {fraction(trained)}, evaluated with {fraction(eps)}."
    elif eps == PAPERS_RADIUS:
        info["footnote"] = "The radius is 0.031, or 7.9/255, and not 8/255."
    complete = bool(info["link"] and paper.title and paper.authors)
    return info, _notes(record, epoch, bool(autoattack), complete)


@dataclass(frozen=True)
class _RobustAccuracy:
    """The accuracy under one attack. eps: its radius as a float, None for an attack without one."""

    accuracy: float
    settings: dict[str, Any]
    norm: str
    eps: Any


def _robust_accuracies(record: Record, epoch: int) -> list[_RobustAccuracy]:
    results = []
    for item in record.evaluations:
        if item.epoch == epoch and item.attack != CLEAN:
            settings = record.attack_settings(item.attack, item.id)
            share = accuracy(record, item.attack, epoch, item.id)
            norm, eps = settings.get("norm", "linf"), settings.get("eps")
            results.append(_RobustAccuracy(share, settings, norm, eps))
    return results


def _notes(record: Record, epoch: int, autoattack: bool, complete: bool) -> list[str]:
    """Notes on the JSON. autoattack, complete: whether it has that accuracy, and all data of the paper."""
    notes = [f"the accuracies are those of epoch {epoch} alone, not the mean that tables show"]
    if not autoattack:
        notes.append(
            f"autoattack_acc is null: epoch {epoch} has no full evaluation by AutoAttack; "
            "add one with: fairbench run --attacks autoattack, and export again"
        )
    if record.cell.full_protocol.subset is not None:
        notes.append("the accuracies are of a subset of the test images: RobustBench asks for all")
    if not complete:
        notes.append(f"the registry has no full paper entry for {record.method}: fill in link, name, authors")
    if record.dataset not in LISTED:
        notes.append(f"RobustBench lists {', '.join(LISTED)}, not {record.dataset}")
    return notes


def accuracy(record: Record, attack: str, epoch: int, id: str | None = None) -> float:
    """Share of the test images that are correct under `attack` at `epoch`, in [0, 1]."""
    return float(record.outcomes(attack, epoch, id)["correct"].mean())


def percent(value: float) -> str:
    """A share in [0, 1] in percent with two digits, as RobustBench writes it."""
    return f"{100 * value:.2f}"


def fraction(eps: float) -> str:
    """A radius as "8/255" when it is a whole number of grey levels, else as a number."""
    levels = round(255 * eps)
    return f"{levels}/255" if levels and abs(255 * eps - levels) < 1e-9 else f"{eps:g}"


def write_network(out: Path, target: str) -> str:
    """The Python lines that import the builder of `target` as `network`; a file is copied to `out` first."""
    module, _, function = target.rpartition(":")
    if not module.endswith(".py"):
        return f"from {module} import {function} as network\n"
    content = Path(module).read_bytes()
    write_atomic(out / "network.py", lambda file: file.write(content))
    return (
        "from pathlib import Path\n\nfrom fairbench.core.imports import load_object\n\n"
        f"network = load_object(f\"{{Path(__file__).with_name('network.py')}}:{function}\")\n"
    )


def builder_text(record: Record, epoch: int, source: str, files: Export) -> str:
    """The content of model.py."""
    weights = files.weights.relative_to(files.builder.parent).as_posix()
    shape = record.cell.images.image_shape
    return f'''"""{record.folder.name}, epoch {epoch}. Images are in [0, 1]; outputs are logits.

fairbench evaluate {weights} --models model.py:build --datasets {record.dataset}
"""

{source}

def build(num_classes={record.num_classes}, image_shape={shape}):
    """The network with initial weights; those of the run are in {weights}."""
    return network(num_classes, image_shape)
'''


def entry_text(record: Record, name: str) -> str:
    """The lines of model.py to copy into robustbench's table of models."""
    return f'''

# For robustbench/model_zoo/{record.dataset}.py: replace None by the id of the uploaded weights.
ENTRY = ("{name}", {{"model": build, "gdrive_id": None}})
'''

"""`fairbench evaluate`: attack a checkpoint from anywhere."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.options import (
    data_option,
    device_option,
    json_option,
    open_registry,
    registry_option,
    results_option,
)
from fairbench.cli.output import columns, print_json
from fairbench.cli.progress import LINE_SECONDS, describe_attack
from fairbench.core.errors import ConfigError
from fairbench.data.manifest import data_root
from fairbench.planning.selection import parse_names
from fairbench.records.attack_strength import describe_standing
from fairbench.registry import read_scalar
from fairbench.registry.attacks import REFERENCE
from fairbench.registry.fields import parse_fraction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fairbench.evaluation.progress import Progress

ZOO = "robustbench:"
MODEL_FILE = re.compile(r".*\.py(:.*)?")


def total_work(stages: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Passes and seconds of all stages of an attack."""
    return {key: sum(stage[key] for stage in stages) for key in ("forward", "backward", "seconds")}


def compared(verdicts: Mapping[str, Any]) -> list[str]:
    """The attacks that were also run by the reference package."""
    return [name for name in verdicts if f"{name}{REFERENCE}" in verdicts]


def disagreement(verdicts: Mapping[str, "NDArray[np.bool_]"], name: str) -> dict[str, int]:
    """How many verdicts the reference package shares, and how many images only one of the two breaks."""
    own, reference = verdicts[name], verdicts[f"{name}{REFERENCE}"]
    return {
        "same": int((own == reference).sum()),
        "only_this": int((~own & reference).sum()),
        "only_reference": int((own & ~reference).sum()),
    }


@click.command(
    "evaluate",
    epilog="Example: fairbench evaluate my.pt --model resnet18 --dataset cifar10 --attacks pgd-20,autoattack",
)
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    metavar="NAME|FILE.py:FUNCTION",
    help="Its architecture: a model of the registry, a function that builds it, or "
    f"{ZOO}NAME, the RobustBench zoo's model for cifar10 or cifar100.",
)
@click.option("--dataset", required=True, help="The test images.")
@click.option("--attacks", default="pgd-20", show_default=True, metavar="A,B|all")
@click.option(
    "--eps",
    help="Radius, for instance 8/255, instead of the attacks' own; PGD's step scales with it.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the attacks' noise, instead of their own."
)
@click.option("--per-class", type=click.IntRange(min=1), help="Only the first images of each class.")
@results_option
@data_option
@registry_option
@device_option
@json_option
def evaluate_command(
    checkpoint: Path | None,
    model: str,
    dataset: str,
    attacks: str,
    eps: str | None,
    seed: int | None,
    per_class: int | None,
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    device: str,
    as_json: bool,
) -> None:
    """Attack the weights in CHECKPOINT and print class-wise clean and robust accuracy.

    Reads a plain state dict, one saved under DataParallel or inside a training checkpoint, and
    safetensors. Torch files are opened weights-only. For a model of the RobustBench zoo, CHECKPOINT may
    be the folder that robustbench keeps its models in; a function may bring its own weights, and then
    CHECKPOINT is left out.
    """
    from pydantic import ValidationError

    from fairbench.registry.faults import explain

    registry = open_registry(registry_files)
    names = parse_names("attack", attacks, registry, option="--attacks")
    file = MODEL_FILE.fullmatch(model) is not None
    model_entry = None
    if not file and not model.startswith(ZOO):
        model_entry = registry.get("model", model, asked_by=f"--model {model}")
    if checkpoint is None and not file:
        raise ConfigError(
            f"--model {model} is an architecture without weights.",
            hint="name the checkpoint: fairbench evaluate CHECKPOINT --model ...\n"
            "only a file may bring its own weights: --model FILE.py:FUNCTION",
        )
    dataset_entry = registry.get("dataset", dataset, asked_by=f"--dataset {dataset}")
    chosen = {"clean": None} | {name: registry.get("attack", name) for name in names}
    changed = {} if seed is None else {"seed": seed}
    norms = {entry.norm for entry in chosen.values() if entry is not None}
    if eps is not None and len(norms) > 1:
        raise ConfigError(
            f"--eps {eps}: one radius for attacks in {' and '.join(sorted(norms))}.",
            hint="evaluate each norm by itself; what is on disk is not computed again",
        )
    if eps is not None:
        changed["eps"] = read_scalar(eps.strip())
    for name, entry in chosen.items():
        if entry is not None and changed:
            try:
                radius, scaled = parse_fraction(changed.get("eps")), {}
                if entry.kind == "pgd" and isinstance(radius, int | float):  # as many steps, as far across
                    scaled["step_size"] = entry.step_size * radius / entry.eps
                chosen[name] = type(entry).model_validate({**entry.model_dump(), **changed, **scaled})
            except ValidationError as error:
                _, message = explain(error, type(entry), "the attack")[0]
                raise ConfigError(
                    f"--eps {eps}: {message}.", hint="write for instance --eps 8/255"
                ) from error

    from fairbench.metrics.classwise import (
        average_accuracy,
        class_accuracy,
        class_count,
        class_hits,
        require_images,
    )
    from fairbench.records.outcomes import read_outcomes
    from fairbench.runner import external_checkpoint

    last = [time.monotonic()]

    def show(name: str, progress: "Progress") -> None:
        if as_json:
            return
        if sys.stderr.isatty():
            click.echo(f"\r{name}: {describe_attack(progress)}\033[K", err=True, nl=False)
        elif time.monotonic() - last[0] > LINE_SECONDS:
            last[0] = time.monotonic()
            click.echo(f"{name}: {describe_attack(progress)}", err=True)

    if model_entry is not None:
        architecture = external_checkpoint.registered(model_entry)
    elif file:
        architecture = external_checkpoint.from_file(model)
    else:
        assert checkpoint is not None
        checkpoint, architecture = external_checkpoint.from_zoo(model.removeprefix(ZOO), dataset, checkpoint)
    found = external_checkpoint.evaluate_checkpoint(
        checkpoint,
        architecture,
        dataset_entry,
        chosen,
        data_root=data_root(data),
        results=results,
        device_name=device,
        subset_per_class=per_class,
        progress=show,
    )
    if not as_json and sys.stderr.isatty():
        click.echo(err=True)
    classes = found["classes"]
    accuracy, verdicts, work = {}, {}, {}
    findings: list[str] = []
    for name, file in found["files"].items():
        rows = read_outcomes(file)
        verdicts[name] = rows["correct"]
        about = found["about"][name]
        work[name] = total_work(about.get("stages", ()))
        findings += [f"{name}: {finding['text']}" for finding in about.get("health", ())]
        images = class_count(rows["label"], len(classes))
        require_images(images, classes)
        hits = class_hits(rows["correct"], rows["label"], len(classes))
        accuracy[name] = float(average_accuracy(hits, images)), class_accuracy(hits, images)
    if as_json:
        print_json(
            {
                "folder": str(found["folder"]),
                "attacks": {
                    name: {
                        "average": average,
                        "worst": float(by_class.min()),
                        "classes": dict(zip(classes, map(float, by_class), strict=True)),
                        **work[name],
                    }
                    for name, (average, by_class) in accuracy.items()
                },
                "findings": findings,
                "agreement": {name: disagreement(verdicts, name) for name in compared(verdicts)},
            }
        )
        return
    lines = [("average", *(f"{100 * average:.2f}" for average, _ in accuracy.values()))]
    lines += [("worst class", *(f"{100 * by_class.min():.2f}" for _, by_class in accuracy.values()))]
    lines += [
        (name, *(f"{100 * by_class[c]:.2f}" for _, by_class in accuracy.values()))
        for c, name in enumerate(classes)
    ]
    count = len(rows)
    lines += [
        ("forward passes per image", *(f"{each['forward'] / count:.1f}" for each in work.values())),
        ("backward passes per image", *(f"{each['backward'] / count:.1f}" for each in work.values())),
        ("seconds", *(f"{each['seconds']:.1f}" for each in work.values())),
    ]
    click.echo(columns(lines, ("accuracy %", *accuracy)) + "\n")
    for name, entry in chosen.items():
        if entry is not None:
            click.echo(f"{name}: {describe_standing(entry.model_dump(mode='json'))}")
    for name in compared(verdicts):
        told = disagreement(verdicts, name)
        click.echo(
            f"{name}: {told['same']} of {count} verdicts as by {name}{REFERENCE}; "
            f"it alone breaks {told['only_this']}, the reference alone {told['only_reference']}"
        )
    for finding in findings:
        click.echo(f"warning: {finding}")
    click.echo(f"{count} test images; outcomes in {found['folder']}")

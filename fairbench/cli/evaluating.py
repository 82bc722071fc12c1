"""`fairbench evaluate`: attack a checkpoint from anywhere."""

import sys
from pathlib import Path

import click

from fairbench.cli.options import (
    columns,
    data_option,
    device_option,
    json_option,
    open_registry,
    print_json,
    registry_option,
    results_option,
)
from fairbench.core.errors import ConfigError
from fairbench.data.manifest import data_root
from fairbench.plan.selection import parse_names
from fairbench.registry import read_scalar

ZOO = "robustbench:"


@click.command(
    "evaluate",
    epilog="Example: fairbench evaluate my.pt --model resnet18 --dataset cifar10 --attacks pgd-20,autoattack",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help=f"Its architecture; {ZOO}NAME is the RobustBench zoo's model for cifar10 or cifar100.",
)
@click.option("--dataset", required=True, help="The test images.")
@click.option("--attacks", default="pgd-20", show_default=True, metavar="A,B|all")
@click.option("--eps", help="Radius in units of [0, 1], for instance 8/255, instead of the attacks' own.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the attacks' noise, instead of their own.")
@click.option("--per-class", type=click.IntRange(min=1), help="Only the first images of each class.")
@results_option
@data_option
@registry_option
@device_option
@json_option
def evaluate_command(
    checkpoint: Path,
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
    safetensors. Torch files are opened weights-only.
    """
    from pydantic import ValidationError

    from fairbench.registry.faults import explain

    registry = open_registry(registry_files)
    names = parse_names("attack", attacks, registry, option="--attacks")
    model_entry = None
    if not model.startswith(ZOO):
        model_entry = registry.get("model", model, asked_by=f"--model {model}")
    dataset_entry = registry.get("dataset", dataset, asked_by=f"--dataset {dataset}")
    chosen = {"clean": None} | {name: registry.get("attack", name) for name in names}
    changed = {} if seed is None else {"seed": seed}
    if eps is not None:
        changed["eps"] = read_scalar(eps.strip())
    for name, entry in chosen.items():
        if entry is not None and changed:
            try:
                chosen[name] = type(entry).model_validate({**entry.model_dump(), **changed})
            except ValidationError as error:
                _, message = explain(error, type(entry), "the attack")[0]
                raise ConfigError(
                    f"--eps {eps}: {message}.", hint="write for instance --eps 8/255"
                ) from error

    from fairbench.metrics.classwise import class_accuracy
    from fairbench.records.outcomes import read_outcomes
    from fairbench.runner import foreign

    def show(name: str, done: int, total: int) -> None:
        if not as_json and sys.stderr.isatty():
            click.echo(f"\r{name}: {done}/{total}" + ("\n" if done == total else ""), err=True, nl=False)

    if model_entry is None:
        architecture = foreign.from_zoo(model.removeprefix(ZOO), dataset)
    else:
        architecture = foreign.registered(model_entry)
    found = foreign.evaluate_checkpoint(
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
    classes = found["classes"]
    accuracy = {}
    for name, file in found["files"].items():
        rows = read_outcomes(file)
        accuracy[name] = (
            float(rows["correct"].mean()),
            class_accuracy(rows["correct"], rows["label"], len(classes), classes),
        )
    if as_json:
        print_json(
            {
                "folder": str(found["folder"]),
                "attacks": {
                    name: {
                        "average": average,
                        "worst": float(by_class.min()),
                        "classes": dict(zip(classes, map(float, by_class), strict=True)),
                    }
                    for name, (average, by_class) in accuracy.items()
                },
            }
        )
        return
    lines = [("average", *(f"{100 * average:.2f}" for average, _ in accuracy.values()))]
    lines += [("worst class", *(f"{100 * by_class.min():.2f}" for _, by_class in accuracy.values()))]
    lines += [
        (name, *(f"{100 * by_class[c]:.2f}" for _, by_class in accuracy.values()))
        for c, name in enumerate(classes)
    ]
    click.echo(columns(lines, ("accuracy %", *accuracy)))
    click.echo(f"\n{len(rows)} test images; outcomes in {found['folder']}")

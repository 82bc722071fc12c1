"""`fairbench evaluate`: attack a model that was trained elsewhere."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairbench.cli.command import Command
from fairbench.cli.options import PATH, count, open_registry, renamed, shared, value
from fairbench.cli.output import columns, echo, print_json
from fairbench.cli.progress import Lines, describe_attack
from fairbench.data.manifest import data_root
from fairbench.planning.attack_choice import choose_attacks, default_attack
from fairbench.records.attack_strength import describe_strength

if TYPE_CHECKING:
    from fairbench.records.progress import Progress
    from fairbench.registry import AttackEntry
    from fairbench.runner.external_evaluation import ExternalEvaluation


@click.command(
    "evaluate",
    cls=Command,
    epilog="Example: fairbench evaluate my.pt --models resnet18 --datasets cifar10 --attacks pgd-20",
)
@click.argument("checkpoint", required=False, type=PATH)
@renamed(
    "--models",
    "--model",
    "NAME|FILE.py:FUNCTION",
    "Network: a model of the registry, a function that builds it, timm:NAME (a network of the package timm), "
    "or robustbench:NAME (a model of the RobustBench zoo for cifar10 or cifar100).",
    name="model",
    required=True,
)
@renamed(
    "--datasets",
    "--dataset",
    "NAME",
    "Data set whose test images are used.",
    name="dataset",
    required=True,
)
@value("--attacks", "A,B|all", "Attacks to run.  [default: PGD with the radius of the data set]")
@value(
    "--eps",
    "RADIUS",
    "Radius instead of the attacks' own, for example 8/255; PGD's step size is scaled with it.",
)
@value(
    "--seed",
    "N",
    "Seed of the attacks' random numbers, instead of their own.",
    type=click.IntRange(0, 2**31 - 1),
)
@value(
    "--key",
    "KEY",
    "Which weights of CHECKPOINT to take, if it holds several: a key, or a prefix of names (model_ema).",
)
@value(
    "--normalize",
    "NAME|MEAN,.../STD,...",
    "Normalise images before the network (cifar10, imagenet, ..., none, or numbers), for weights trained "
    "with the normalisation outside of it.",
)
@count("--per-class", "Use only the first N test images of each class.")
@shared("results", "data", "registry", "device", "json")
def evaluate_command(
    checkpoint: Path | None,
    model: str,
    dataset: str,
    attacks: str | None,
    eps: str | None,
    seed: int | None,
    results: Path,
    data: str | None,
    registry_files: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Attack a trained model and print its clean and robust accuracy per class.

    CHECKPOINT is a PyTorch state dict, also one inside a training checkpoint or saved under DataParallel, or
    a safetensors file. PyTorch files are opened weights-only. For a RobustBench model, CHECKPOINT may be the
    folder in which robustbench keeps its models. Leave it out when FUNCTION returns a model with weights.
    """
    registry = open_registry(registry_files)
    names = attacks or default_attack(registry, dataset)
    chosen = choose_attacks(names, registry, eps=eps, seed=seed)

    from fairbench.runner.external_evaluation import evaluate_model

    shown = AttackProgress()
    evaluation = evaluate_model(
        model,
        checkpoint,
        dataset,
        chosen,
        registry,
        data_root=data_root(data),
        results=results,
        progress=(lambda name, progress: None) if as_json else shown.attack,
        **options,
    )
    if as_json:
        print_json(evaluation.to_json())
    else:
        if sys.stderr.isatty():
            echo(err=True)  # ends the changing line
        show_evaluation(evaluation, chosen)


class AttackProgress(Lines):
    """Progress of attacks on standard error: a changing line on a terminal, elsewhere a line now and then."""

    def attack(self, name: str, progress: "Progress") -> None:
        """The attack `name` is this far."""
        self.name = name
        if sys.stderr.isatty():
            echo(f"\r{name}: {describe_attack(progress)}\033[K", err=True, nl=False)
        else:
            self.say_rarely(describe_attack(progress))


def show_evaluation(evaluation: "ExternalEvaluation", attacks: Mapping[str, "AttackEntry"]) -> None:
    """Print a column per attack, then what its number may be called, comparisons and warnings."""
    summaries, count = evaluation.attacks.values(), evaluation.num_images
    rows = [
        ("average", *(f"{100 * each.average:.2f}" for each in summaries)),
        ("worst class", *(f"{100 * each.worst:.2f}" for each in summaries)),
        *(
            (name, *(f"{100 * each.classes[name]:.2f}" for each in summaries))
            for name in evaluation.attacks["clean"].classes
        ),
        ("forward passes per image", *(f"{each.forward / count:.1f}" for each in summaries)),
        ("backward passes per image", *(f"{each.backward / count:.1f}" for each in summaries)),
        ("seconds", *(f"{each.seconds:.1f}" for each in summaries)),
    ]
    echo(columns(rows, ("accuracy %", *evaluation.attacks)) + "\n")
    for name, attack in attacks.items():
        echo(f"{name}: {describe_strength(attack.model_dump(mode='json'))}")
    for name, agreement in evaluation.agreement.items():
        echo(
            f"{name}: {agreement.same} of {count} verdicts equal those of {name}:reference; {name} alone "
            f"breaks {agreement.only_this} images, {name}:reference alone {agreement.only_reference}"
        )
    for note in evaluation.notes:
        echo(f"note: {note}")
    for finding in evaluation.findings:
        echo(f"warning: {finding}")
    echo(f"{count} test images; outcomes in {evaluation.folder}")

"""Laws of training: runs, seeds, resuming, unusual batches, and independence of class numbers."""

import dataclasses
import math
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fairbench.attacks.draws import Draws
from fairbench.core.errors import EmptyClassError
from fairbench.data.batch import Batch
from fairbench.models.checkpoints import read_tensors, write_tensors
from fairbench.objectives.contract import AdversarialObjective, build_config
from fairbench.testing import toys
from fairbench.testing.law import (
    NUM_CLASSES,
    BrokenLawError,
    NotApplicable,
    Subject,
    authors_line,
    require,
)
from fairbench.testing.runs import left_behind, trained
from fairbench.testing.snapshots import changed_names, kept_values
from fairbench.testing.training import EPOCHS, UNBALANCED, Event, Training
from fairbench.training.networks import first_line

CUTS: tuple[Event, ...] = ((1, 1), (1, "end"), (2, 1), (2, "end"), (3, "start"))
PERMUTATION = torch.tensor([2, 0, 3, 1])  # class c becomes class PERMUTATION[c]
TWELVE = torch.tensor([5, 2, 0, 11, 7, 9, 1, 10, 3, 4, 6, 8])
MANY_LABELS = (*range(12), 0, 0, 1, 5, 5, 5, 9)
ODD_BATCHES = {
    "a class is absent": (0, 1, 1, 3, 3, 3),
    "there is only one class": (2, 2, 2, 2, 2, 2),
    "there is only one image": (1,),
    "every class has one image": (0, 1, 2, 3),
}
OTHER_SHAPE = (3, 10, 14)
DECLARE = "declare values to be saved as fields of State: per_class(...), per_class_pair(...), a number"
FINITE = "divide by count.clamp(min=1), and avoid log(0): an absent class must not affect the others"


def trains(subject: Subject) -> None:
    """Three epochs of toy training run with all hooks and have finite losses."""
    finite(trained(subject).training, "in ordinary training")


def deterministic(subject: Subject) -> str:
    """The same seed gives the same result bit for bit, another seed another one."""
    first = trained(subject)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # the global generator gives other numbers now
        again = left_behind(Training(subject.build(), labels=UNBALANCED).run())
    changed = toys.differences(first.left, again)
    require(
        not changed,
        f"the same seed gives another result the second time: {', '.join(changed[:3])}.",
        'draw from ctx.rng("a purpose") only; keep nothing in globals or class attributes',
    )
    if not first.drawn:
        return "the method draws no random numbers"
    other = left_behind(Training(subject.build(), labels=UNBALANCED, seed=1).run())
    require(
        toys.differences(first.left, other),
        f"it draws random numbers ({', '.join(sorted(first.drawn))}), but another seed changes nothing.",
        'draw from ctx.rng("a purpose"), not from a generator with a fixed seed',
    )
    return ""


def resumes(subject: Subject) -> None:
    """Training that is saved and resumed at any event equals uninterrupted training, bit for bit."""
    whole = trained(subject)
    kept = kept_values(whole.training.method)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        half = Training(subject.build(), labels=UNBALANCED)
        for cut in CUTS:
            write_tensors(path, half.run(until=cut).tensors(), {})
            resumed = Training(subject.build(), labels=UNBALANCED)
            resumed.resume(read_tensors(path)[0], cut)
            where = f"before epoch {cut[0]}" if cut[1] == "start" else f"in the middle of epoch {cut[0]}"
            lost = changed_names(kept_values(half.method), kept_values(resumed.method))
            hint = f"{', '.join(lost)} is not saved: {DECLARE}" if lost else DECLARE
            try:
                left = left_behind(resumed.run())
            except AttributeError as error:
                raise BrokenLawError(f"a run saved {where} cannot be resumed: {error}.", hint=hint) from error
            changed = toys.differences(whole.left, left)
            require(
                not changed,
                f"a run saved {where} and resumed gives another result: {', '.join(changed[:3])}.",
                hint,
            )
            other = [name for name in changed_names(kept, kept_values(resumed.method)) if "self." in name]
            require(not other, f"a run saved {where} ends with other values in {', '.join(other)}.", DECLARE)


def bears_odd_batches(subject: Subject) -> str:
    """Unusual batches and predictions give finite numbers, or an EmptyClassError after the epoch."""
    empty = ""
    for what, labels in ODD_BATCHES.items():
        training = Training(subject.build(), labels=labels, steps=1)
        try:
            training.run()
        except EmptyClassError as error:
            require(
                training.events == [] or training.events[0][1] in (0, "start"),
                f"when {what}, a step raises EmptyClassError: {error.message}",
                "a batch may lack a class; raise EmptyClassError in on_epoch_end or on_validation only",
            )
            empty = "an epoch without images of a class is an EmptyClassError"
        finite(training, f"when {what}")
    for awkward in (True, False):  # weights and radii at their extremes
        run = trained(subject, awkward=awkward)
        finite(run.training, "after an epoch with extreme class statistics")
        for what, labels in ODD_BATCHES.items():
            step(run.ends()[0], f"when {what}, after extreme statistics", torch.tensor(labels))
    for right in (True, False):
        certain(subject.build(), right)
    other_size(subject)
    pair = Training(subject.build(num_classes=2)).run()
    finite(pair, "with two classes")
    diverged(subject.build())
    return empty


def bears_two_labels(subject: Subject) -> str:
    """A step on images with two labels works; with a share of 1 it equals the step with one label."""
    if subject.build().resolved_needs().one_label:
        return "Mixup and CutMix are refused: one label per image, as declared"

    def after(given: Batch, trained_before: bool) -> dict[str, Tensor]:
        fresh = (subject.build(), toys.network())
        method, model = trained(subject, awkward=True).ends() if trained_before else fresh
        loss = toys.one_step(method, model, given)  # raises when the contract is broken
        state = {f"state.{name}": value for name, value in method.state_dict().items()}
        values = {"loss": loss, **model.state_dict(), **state}
        require(
            all(torch.isfinite(value).all() for value in values.values()),
            "on images with two labels, the loss or a weight is not finite.",
            FINITE,
        )
        return values

    whole = toys.mixed(1.0)
    second = (whole.y + 1) % NUM_CLASSES
    second[0] = (whole.y[0] + 2) % NUM_CLASSES  # the classes are not counted as in y
    whole = dataclasses.replace(whole, y2=second)
    for before in (False, True):
        after(toys.mixed(0.7), before)
        changed = toys.differences(after(toys.batch(), before), after(whole, before))
        require(
            not changed,
            f"with a share of 1 for the first label, training differs: {', '.join(changed[:3])}.",
            "do not use batch.y2 and batch.lam in loss(): the trainer calls it once per label; "
            "in a hook, an image counts for batch.y with batch.lam, and for batch.y2 with 1 - batch.lam",
        )
    return ""


def knows_no_class_by_number(subject: Subject) -> None:
    """If the classes are renamed, all results are renamed in the same way, and nothing else changes."""
    for permutation, labels, epochs in ((PERMUTATION, UNBALANCED, 2), (TWELVE, MANY_LABELS, EPOCHS)):
        with suppress(EmptyClassError):  # after an epoch in which the drawn classes were not all of them
            check_renamed(subject, permutation, labels, epochs)


def check_renamed(subject: Subject, permutation: Tensor, labels: tuple[int, ...], epochs: int) -> None:
    """Raise BrokenLawError unless training with the classes renamed gives the renamed results."""
    draws: list[RenamedDraws] = []
    many = len(permutation) > NUM_CLASSES

    def run(permuted: Tensor | None) -> dict[str, Tensor]:
        count = len(permutation)
        network = toys.capable(count).train() if many else toys.network(count)

        def renamed(seed: int) -> Draws:
            draws.append(RenamedDraws(seed, toys.CPU, permuted, count))
            return draws[-1]

        training = Training(
            subject.build(num_classes=count, permutation=permuted),
            labels=labels,
            permutation=permuted,
            model=toys.renamed(network, permuted).double(),
            dtype=torch.float64,
            draws=renamed,
            epochs=epochs,
            untied=many,
        ).run()
        return named_back(training, permuted)

    first, second = run(None), run(permutation)
    if any(draw.per_class for draw in draws):
        raise NotApplicable("it draws one random number per class, which cannot be renamed")
    wrong = [
        name
        for name in first
        if not torch.allclose(
            first[name].double(), second[name].double(), rtol=1e-6, atol=1e-9, equal_nan=True
        )
    ]
    require(
        not wrong,
        f"after renaming the classes, these results are not the renamed ones: {', '.join(wrong[:3])}.",
        "do not use class numbers or their order; treat tied classes in the same way",
    )


class RenamedDraws(Draws):
    """Draws for renamed classes: those for the old names, renamed."""

    def __init__(self, seed: int, device: torch.device, permutation: Tensor | None, num_classes: int) -> None:
        super().__init__(seed, device)
        self.permutation, self.num_classes = permutation, num_classes
        self.per_class = False

    def normal(self, like: Tensor) -> Tensor:
        self._notice(like)
        return super().normal(like)

    def uniform(self, like: Tensor) -> Tensor:
        self._notice(like)
        return super().uniform(like)

    def other_class(self, label: Tensor, num_classes: int) -> Tensor:
        if self.permutation is None:
            return super().other_class(label, num_classes)
        return self.permutation[super().other_class(self.permutation.argsort()[label], num_classes)]

    def choice(self, weight: Tensor) -> Tensor:
        if self.permutation is None:
            return super().choice(weight)
        return self.permutation[super().choice(weight[:, self.permutation])]

    def _notice(self, like: Tensor) -> None:
        self.per_class |= like.dim() < 3 and self.num_classes in like.shape


def named_back(training: Training, permutation: Tensor | None) -> dict[str, Tensor]:
    """Losses, weights and state of a training, in the old names of the classes."""
    results = {f"model.{name}": value for name, value in training.model.state_dict().items()}
    axes = dict.fromkeys(("model.fc.weight", "model.fc.bias"), 1)
    for part in dataclasses.fields(training.method.state):
        value = getattr(training.method.state, part.name)
        if "axes" in part.metadata:
            axes[f"state.{part.name}"] = part.metadata["axes"]
        elif isinstance(value, Tensor) and value.dim() > 0:
            raise NotApplicable(f"the axes of State.{part.name} are not declared by per_class()")
        results[f"state.{part.name}"] = torch.as_tensor(value)
    if permutation is not None:
        for name, count in axes.items():
            for axis in range(count):
                results[name] = results[name].index_select(axis, permutation)
    return {"losses": torch.stack(training.losses), **results}


def finite(training: Training, when: str) -> None:
    """Raise BrokenLawError unless losses, weights and state of `training` are finite."""
    require(
        not training.losses or torch.isfinite(torch.stack(training.losses)).all(),
        f"{when}, the loss is not finite.",
        FINITE,
    )
    require(
        all(torch.isfinite(value).all() for value in training.model.state_dict().values()),
        f"{when}, weights become NaN or infinite.",
        FINITE + "; the gradient of sqrt and of pow below 1 is infinite at 0",
    )
    attached = [name for name, value in training.method.state_dict().items() if value.requires_grad]
    require(
        not attached,
        f"{when}, the state keeps the graph of its gradient: {', '.join(attached)}.",
        "store value.detach(): otherwise memory grows with each step, and later losses change it",
    )
    undefined = [name for name, value in training.method.state_dict().items() if torch.isnan(value).any()]
    require(
        not undefined,
        f"{when}, the state becomes NaN: {', '.join(undefined)}.",
        "statistics of an absent class are NaN: use stats.of_every_class(name), or keep the old value",
    )


def other_size(subject: Subject) -> None:
    """Raise BrokenLawError unless a step on images of another height and width works."""
    info = dataclasses.replace(toys.info(NUM_CLASSES), image_shape=OTHER_SHAPE)
    method = subject.cls(build_config(subject.cls, subject.config), info, toys.CPU)
    when = f"with images of {'x'.join(map(str, OTHER_SHAPE))} instead of {'x'.join(map(str, toys.SHAPE))}"
    given = toys.batch()
    given = dataclasses.replace(given, x=interpolate(given.x, OTHER_SHAPE[1:]))
    try:
        loss = toys.one_step(method, toys.network(), given, check=False)
    except RuntimeError as error:
        raise BrokenLawError(
            f"{when}, a step fails: {first_line(error)} ({authors_line(error)}).",
            hint="the shape of images is batch.x.shape, and in a hook self.info.image_shape",
        ) from error
    require(torch.isfinite(loss), f"{when}, the loss is not finite.", FINITE)


def step(
    method: AdversarialObjective,
    when: str,
    labels: Tensor,
    change: Callable[[toys.ToyNetwork], None] | None = None,
) -> Tensor:
    """The loss of one step; raises BrokenLawError unless it is finite."""
    model, given = toys.network(), toys.batch(labels=labels)
    if change is not None:
        change(model)
    loss = toys.one_step(method, model, given, check=False)
    require(torch.isfinite(loss), f"{when}, the loss is not finite.", FINITE)
    weights = all(torch.isfinite(value).all() for value in model.state_dict().values())
    require(weights, f"{when}, weights become NaN or infinite.", FINITE)
    return loss


def certain(method: AdversarialObjective, right: bool) -> None:
    """Run a step in which all predictions have probability 1, and are right or wrong."""

    def change(model: toys.ToyNetwork) -> None:
        with torch.no_grad():
            model.fc.weight.zero_()
            model.fc.bias.copy_(torch.tensor([300.0, 0.0, 0.0, 0.0]))

    when = f"when all predictions have probability 1 and are {'right' if right else 'wrong'}"
    step(method, when, torch.full((12,), 0 if right else 1), change)


def diverged(method: AdversarialObjective) -> None:
    """A model with NaN weights gives a NaN loss and no error, or the step is skipped."""
    model = toys.network()
    with torch.no_grad():
        model.conv1.weight.fill_(math.nan)
    before = toys.copied(model.state_dict())
    loss = toys.one_step(method, model, check=False)
    names = dict(model.named_parameters())
    skipped = all(toys.identical(before[name], value.detach()) for name, value in names.items())
    require(
        bool(torch.isnan(loss)) or (skipped and float(loss) == 0),
        "a model whose weights are NaN gives a finite loss.",
        "do not replace NaN by numbers: the trainer reports that training diverged",
    )

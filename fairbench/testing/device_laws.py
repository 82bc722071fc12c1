"""Laws of devices: no waiting for the device, no loop over classes, no tensor on another device."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fairbench.attacks.draws import Draws
from fairbench.attacks.frozen import frozen
from fairbench.data.batch import Batch
from fairbench.objectives.contract import Context
from fairbench.testing import toys
from fairbench.testing.law import BrokenLawError, Subject, accepted, authors_line, require
from fairbench.testing.option_laws import alternatives, option_of
from fairbench.testing.training import EPOCHS, UNBALANCED, Training
from fairbench.training.contract_checks import images_of
from fairbench.training.cuda_graphs import watched_step
from fairbench.training.networks import first_line
from fairbench.training.step import attack

WAITING = {  # operations for which the host waits for a value of the device
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "nonzero_static",
    "masked_select",
    "equal",
    "item",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "allclose",
}
DRAWING = (
    "rand",
    "normal",
    "uniform",
    "exponential",
    "bernoulli",
    "multinomial",
    "poisson",
    "dropout",
    "geometric",
)
FACTORIES = {
    torch.arange,
    torch.empty,
    torch.eye,
    torch.full,
    torch.linspace,
    torch.ones,
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
    torch.tensor,
    torch.zeros,
}
META = torch.device("meta")


class Operations(TorchDispatchMode):
    """Notes dispatched operations, and those that wait for the device, draw, or leave the device `home`."""

    def __init__(self, home: torch.device | None = None) -> None:
        super().__init__()
        self.home = home
        self.names: list[str] = []
        self.waiting: list[str] = []
        self.drawn: list[str] = []
        self.elsewhere: list[str] = []
        self.lines: dict[str, str] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        self.names.append(name)
        flat = [part for arg in args for part in (arg if isinstance(arg, list | tuple) else [arg])]
        by_mask = name.startswith("index") and any(
            isinstance(part, Tensor) and part.dtype == torch.bool for part in flat[1:]
        )
        if name in WAITING or by_mask:
            self.waiting.append(name)
            self.lines.setdefault(name, authors_line())
        if name.startswith(DRAWING) and authors_line():
            self.drawn.append(name)
        output = function(*args, **(kwargs or {}))
        if self.home is not None:
            for value in output if isinstance(output, list | tuple) else (output,):
                if isinstance(value, Tensor) and value.device != self.home and value.dim() > 0:
                    self.elsewhere.append(name)
                    self.lines.setdefault(name, authors_line())
        return output


class Deviceless(TorchFunctionMode):
    """Notes lines that make a tensor without a device: it would be on the CPU, wherever the model is."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in FACTORIES and (kwargs or {}).get("device") is None and output.dim() > 0:
            line = authors_line()
            if line and output.numel() > 0:  # no line: the toy images and networks are made on the CPU
                self.lines.append(line)
        return output


class MetaDraws(Draws):
    """Draws without values."""

    def __init__(self) -> None:
        pass

    def normal(self, like: Tensor) -> Tensor:
        return torch.empty_like(like)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.empty_like(like)

    def other_class(self, label: Tensor, num_classes: int) -> Tensor:
        return torch.empty_like(label)

    def choice(self, weight: Tensor) -> Tensor:
        return torch.empty(len(weight), dtype=torch.int64, device=weight.device)


def never_waits(subject: Subject) -> str:
    """A step does not wait for the device, whatever words and flags the options have.

    A method may declare that it waits, and why. The remark is why steps cannot be captured as CUDA graphs.
    """
    for epoch, options in ((1, {}), *((EPOCHS, changed) for changed in ({}, *switched(subject)))):
        method = subject.build(**options)
        if method.resolved_needs().waits:
            continue
        operations = operations_of(Training(method).run(until=(epoch, 1)), epoch)
        where = [f"{name} ({operations.lines[name]})" for name in dict.fromkeys(operations.waiting)]
        given = "".join(f"with {name}={value!r} " for name, value in options.items())
        require(
            not operations.waiting,
            f"{given}a step waits for the device: {', '.join(where)}.",
            "stay in tensors: no .item(), float(), `if tensor`, x[mask], nonzero or unique; "
            "use torch.where(mask, a, b) and sums with classes.class_indicator. "
            'If the method has to wait, declare it: Needs(waits="why")',
        )
    return graph_fallback(subject)


def graph_fallback(subject: Subject) -> str:
    """Why the steps of the method are not captured as CUDA graphs; "" if they are."""
    method = subject.build()
    if waits := method.resolved_needs().waits:
        return f"waits for the device, as declared: {waits}"
    training = Training(method).run(until=(1, 1))
    _, reasons = watched_step(
        training.step.plain, training.batch(1), training.context(1, 1), training.method.state
    )
    return "".join(f"steps are not captured as CUDA graphs: {reason}" for reason in reasons[:1])


def no_work_per_class(subject: Subject) -> None:
    """A step with fifty classes has the same operations as a step with five."""
    for epoch in (1, EPOCHS):
        # One step only: a whole epoch would need an image of each of the fifty classes.
        few, many = (
            operations_of(Training(subject.build(num_classes=count)).run(until=(1, 1)), epoch)
            for count in (5, 50)
        )
        require(
            few.names == many.names,
            f"a step has {len(few.names)} operations with 5 classes, {len(many.names)} with 50.",
            "replace the loop over classes: classes.class_means and table[y] compute all classes at once",
        )


def at_home_on_any_device(subject: Subject) -> str:
    """Tensors are made on the device and in the precision of the batch."""
    in_double_precision(subject)
    with Deviceless() as seen:
        Training(subject.build(), labels=UNBALANCED, epochs=2).run()
    require(
        not seen.lines,
        f"a tensor is made without a device: {', '.join(dict.fromkeys(seen.lines))}.",
        "write device=batch.y.device, or use .new_tensor or ..._like of a tensor on the device",
    )
    if not subject.build().resolved_needs().waits:  # there are no values to wait for
        on_meta(subject)
    if torch.cuda.is_available():
        on_cuda(subject)
        return "CUDA too"
    return ""


def in_double_precision(subject: Subject) -> None:
    """Raise BrokenLawError unless a step in float64 stays in float64."""
    method, model, given = subject.build(), toys.network().double(), toys.batch()
    given = replace(given, x=given.x.double())
    whole = toys.context(teacher=toys.teachers(dtype=torch.float64))
    ctx = replace(whole, budget=method.budget(given.y, whole))
    images = images_of(given, attack(method, model, given, ctx))
    narrow = [name for name, image in images.items() if image.dtype != given.x.dtype]
    require(
        not narrow,
        f"with float64 images, perturb() returns {', '.join(narrow)} in another precision.",
        "write .to(batch.x.dtype) where perturb() makes a tensor",
    )
    toys.one_step(method, model, given, whole, check=False)


def on_meta(subject: Subject) -> None:
    """Raise BrokenLawError unless a step on a device without values stays there."""
    method = subject.build(device=META)
    training = Training(method, steps=1, epochs=1, device=META, draws=lambda seed: MetaDraws())
    given, ctx = training.batch(0), training.context(1, 0)
    with Operations(META) as operations:
        try:
            step_and_validate(training, given, ctx)
        except (RuntimeError, NotImplementedError) as error:
            raise BrokenLawError(
                f"a step on another device than the CPU fails: {first_line(error)} ({authors_line(error)}).",
                hint="make tensors with device=batch.y.device, and never move one to the CPU",
            ) from error
    where = [f"{name} ({operations.lines[name]})" for name in dict.fromkeys(operations.elsewhere)]
    require(
        not where,
        f"a step on another device than the CPU makes tensors on the CPU: {', '.join(where)}.",
        "make tensors with device=batch.y.device, and never move one to the CPU",
    )


def on_cuda(subject: Subject) -> None:
    """Raise unless two steps run on CUDA, the second one without an undeclared host sync."""
    device = torch.device("cuda")
    training = Training(subject.build(device=device), labels=UNBALANCED, epochs=1, device=device).run(
        until=(1, 1)
    )
    given, ctx = training.batch(1), training.context(1, 1)
    if not training.method.resolved_needs().waits:
        torch.cuda.set_sync_debug_mode("error")
    try:
        training.step(given, ctx)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    Training(subject.build(device=device), labels=UNBALANCED, device=device).run()


def switched(subject: Subject) -> Iterator[dict[str, Any]]:
    """Settings that change one word or flag each."""
    for name, value in subject.settings().items():
        for other in alternatives(option_of(subject, name), value):
            if isinstance(other, str | bool) and accepted(subject, **{name: other}):
                yield {name: other}


def operations_of(training: Training, epoch: int) -> Operations:
    """The operations of one more step of a training, as if in `epoch`, and of validation."""
    with Operations() as operations:  # gradients and momentum exist since the first step
        step_and_validate(training, training.batch(1), training.context(epoch, 1))
    return operations


def step_and_validate(training: Training, given: Batch, ctx: Context) -> None:
    """Run one step and, if the method needs it, the validation of the same batch."""
    if training.method.resolved_needs().sampling:
        training.method.class_share(ctx)
    training.step(given, ctx)
    if training.method.resolved_needs().validation is not None:
        with frozen(training.model), torch.no_grad():
            training.method.validate(training.model, given, ctx)

"""Teachers: trained networks that do not change, which methods ask through `ctx.teacher`."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fairbench.core.errors import ContractError

Ask = Callable[[Tensor], Tensor]
"""A teacher: images (B, channels, H, W) to logits (B, C), without gradient."""


class Teachers:
    """Teachers by name: `teachers("teacher")(x)`. The networks are frozen, in eval mode."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = {name: network.eval() for name, network in networks.items()}
        for network in self.networks.values():
            network.requires_grad_(False)

    def __call__(self, name: str) -> Ask:
        """The teacher `name`. Raises ContractError when the method has none of that name."""
        if name not in self.networks:
            raise ContractError(
                f"ctx.teacher({name!r}): the method has no such teacher.",
                hint=f'declare needs = Needs(teachers={{"{name}"}})',
            )
        network = self.networks[name]

        def logits(x: Tensor) -> Tensor:
            with torch.no_grad():
                answer: Tensor = network(x)
            return answer

        return logits


def once(teacher: Callable[[str], Ask], x: Tensor) -> Callable[[str], Ask]:
    """`teacher`, whose answers about the images `x` are computed only once."""
    answers: dict[str, Tensor] = {}

    def named(name: str) -> Ask:
        ask = teacher(name)

        def logits(images: Tensor) -> Tensor:
            if images is not x:
                return ask(images)
            if name not in answers:
                answers[name] = ask(x)
            return answers[name]

        return logits

    return named

"""What `fairbench new` writes. `$name` is as in the registry, `$module` and `$class_name` as in Python."""

METHOD = '''"""$title: lift the classes that lag behind.

Idea       A class whose robust accuracy fell below the mean in the last epoch gets a larger
           cross-entropy weight in this one. (An example that works; write your own idea here.)
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b))
Source     Written by `fairbench new method $name`.
Deviates   In nothing: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("$name", tags=("reweighting", "trades"))
class $class_name(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:  # the hyper-parameters: meaning, range, neutral value
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # gap-to-weight slope, >= 0; 0 is exactly TRADES

        def __post_init__(self):
            if self.beta < 0 or self.strength < 0:
                raise ValueError("beta and strength have to be at least 0")

    @dataclass
    class State:  # what survives a resume; nothing outside it does
        weight: Tensor = per_class(1.0)  # (C,) cross-entropy weight

    needs = Needs(epoch_stats={"robust_accuracy"})  # what the house has to supply

    def perturb(self, model, batch, ctx):
        """Untargeted KL adversary inside ctx.budget: x_adv (B, channels, H, W)."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        """Terms per sample, before any mean; weights apart from them."""
        return trades_terms(
            model,
            batch,
            x_adv,
            beta=self.config.beta,
            bn_order="adv-clean",
            weight={"clean": self.state.weight[batch.y]},
        )

    def on_epoch_end(self, stats, ctx):
        """Only hooks change the state."""
        accuracy = stats.of_every_class("robust_accuracy")  # (C,)
        lag = (accuracy.mean() - accuracy).clamp(min=0)
        self.state.weight = 1 + self.config.strength * lag
        ctx.log("weight", self.state.weight)
'''

TEST = '''"""$title keeps the contract of fairbench."""

import fairbench.testing


class Test$class_name(fairbench.testing.ContractSuite):
    method = "$method"
'''

REGISTRY = """# What fairbench should know of $title. Pass this file with --registry.
version: 1
methods:
  $name:
$target    title: $title
    # paper: {title: ..., authors: ..., venue: ..., arxiv: "0000.00000"}
    # official: {repo: owner/name, commit: 0123abc, licence: MIT, protocol: trix-150}
    # datasets: {cifar100: {strength: 1.5}}  # published values per data set
"""

TARGET = "    target: $module.py:$class_name\n"

PYPROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "fairbench-$name"
version = "0.1.0"
description = "$title, a method for fairbench"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["fairbench-at"]

[project.optional-dependencies]
test = ["pytest>=8.2"]

[project.entry-points."fairbench.methods"]
$name = "fairbench_$module.$module:$class_name"

[tool.setuptools.packages.find]
where = ["src"]
"""

INIT = '"""$title, a method for fairbench."""\n'

README = """# $title

A method for fairbench (`fairbench-at`): `src/fairbench_$module/$module.py`.
Whoever installs this package has it:

```bash
pip install -e '.[test]'
fairbench list methods --verbose
fairbench check $name
python -m pytest
fairbench run --methods $name,dafa
```

`registry.yaml` holds what is not code: paper, official program, published values per data set. It is
optional; pass it with `--registry registry.yaml`.
"""

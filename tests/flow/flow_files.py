"""The registry and the plugin of the flow tests, and what a run left."""

import json
from pathlib import Path

REGISTRY = """
version: 1
protocols:
  tiny:
    extends: quickstart
    version: 1
    source: none; a test
    threat: {eps: 0.1}
    budget: {step_size: 0.05, num_steps: 2}
    epochs: 2
    batch_size: 32
    selection: {last: 1}
    subset: {train_per_class: 12, test_per_class: 5}
    evaluation: [pgd-2]
attacks:
  pgd-2: {kind: pgd, version: 1, eps: 0.1, step_size: 0.05, num_steps: 2}
  pgd-3: {kind: pgd, version: 1, eps: 0.1, step_size: 0.05, num_steps: 3}
suites:
  tiny: {methods: [trades, dafa], datasets: [digits], models: [cnn-small], seeds: [0], protocol: tiny}
"""

PLUGIN = '''"""MINE: TRADES again.

Idea       None.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, attacks, losses, method, trades_terms


@method("mine")
class Mine(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term

    def perturb(self, model, batch, ctx):
        target = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, target, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean")
'''

HOOK = "target = losses.kl_to_clean"  # before it a test puts lines of its own, eight spaces deep


def content(folder: Path) -> dict[str, object]:
    """Weights, outcomes, and the record but for times and what was lost on the way."""
    found: dict[str, object] = {}
    for path in (*folder.rglob("*.npy"), *folder.rglob("epoch-*.safetensors")):
        found[str(path.relative_to(folder))] = path.read_bytes()
    record = json.loads((folder / "record.json").read_text())
    found["evaluations"] = [(e["attack"], e["id"], e["epoch"], e["digest"]) for e in record["evaluations"]]
    found["state"] = record["state"]
    return found

"""Plugins to start from: what `fairbench new --like` writes.

`$name` is the method's name in a registry, `$class_name` its class, `$title` its title.
"""

from dataclasses import dataclass

FLOOR = '''"""$title: larger weights for classes with low robust accuracy.

Idea       A class whose robust accuracy was below the mean in the last epoch gets a larger
           cross-entropy weight in this epoch. (A working example; describe your own idea here.)
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b))
Source     Written by `fairbench new method $name`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("$name", tags=("reweighting", "trades"))
class $class_name(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:  # hyper-parameters: meaning, range, neutral value
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # weight per unit of accuracy gap, >= 0; 0: exactly TRADES

        def __post_init__(self):
            if self.beta < 0 or self.strength < 0:
                raise ValueError("beta and strength have to be at least 0")

    @dataclass
    class State:  # saved and restored when training resumes
        weight: Tensor = per_class(1.0)  # (C,) cross-entropy weight

    needs = Needs(epoch_stats={"robust_accuracy"})  # what the trainer has to provide

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL inside ctx.budget: x_adv (B, channels, H, W)."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        """Loss terms per sample, before averaging, and their weights."""
        return trades_terms(
            model,
            batch,
            x_adv,
            beta=self.config.beta,
            bn_order="adv-clean",
            weight={"clean": self.state.weight[batch.y]},
        )

    def on_epoch_end(self, stats, ctx):
        """Update the state; only the on_... hooks may change it."""
        accuracy = stats.of_every_class("robust_accuracy")  # (C,)
        lag = (accuracy.mean() - accuracy).clamp(min=0)
        self.state.weight = 1 + self.config.strength * lag
        ctx.log("weight", self.state.weight)
'''

TRADES = '''"""$title: an attack and a loss.

Idea       Cross-entropy on clean images, plus the largest KL divergence that a perturbation causes.
           (A working example, TRADES; describe your own idea here.)
Objective  mean_b CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), x_adv maximising the same KL
Source     Written by `fairbench new method $name --like trades`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, attacks, losses, method


@method("$name", tags=("trades",))
class $class_name(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        # Change here: your hyper-parameters, each with its meaning, range and neutral value.
        beta: float = 6.0  # weight of the robust term, >= 0; 0: training on clean images

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL inside ctx.budget: x_adv (B, channels, H, W)."""
        # Change here: the loss that the attack maximises, a function of logits (B, C) with values (B,).
        # For the cross-entropy: lambda logits: losses.cross_entropy(logits, batch.y), start="uniform".
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        """Loss terms per sample (B,), before averaging."""
        logits_adv, logits = model(x_adv), model(batch.x)  # the order determines the BatchNorm statistics
        # Change here: the terms, under your own names. The loss is the sum of their means.
        return LossTerms(
            clean=losses.cross_entropy(logits, batch.y),
            robust=self.config.beta * losses.kl(logits, logits_adv),
            logits=logits,  # class accuracies are computed from these two
            logits_adv=logits_adv,
        )
'''

DAFA = '''"""$title: class weights from the confusion between classes.

Idea       After a warm-up, a class that is taken for others gets a larger weight, and a class that others
           are taken for a smaller one. (A working example; describe your own idea here.)
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), |x_adv_b - x_b| <= w[y_b] eps
Source     Written by `fairbench new method $name --like dafa`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("$name", tags=("trades", "reweighting", "margin"))
class $class_name(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # weight per unit of confused probability, >= 0; 0: exactly TRADES
        warmup_epochs: int = 70  # the last epoch with weights 1

        def __post_init__(self):
            if self.beta < 0 or self.strength < 0:
                raise ValueError("beta and strength have to be at least 0")

    @dataclass
    class State:
        # Change here: what is saved and restored; per_class_pair(0.0) is a (C, C) matrix.
        weight: Tensor = per_class(1.0)  # (C,)

    needs = Needs(epoch_stats={"robust_probability"})  # for instance "robust_accuracy" or "robust_confusion"

    def budget(self, y, ctx):
        """Radius and step size of each sample. Without this method all classes have the same."""
        return ctx.budget.scale(self.state.weight[y])

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL; ctx.budget is the result of `budget`."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        # Change here: the terms that the class weight scales, "clean" or "robust" or both.
        weight = {"clean": self.state.weight[batch.y]}
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean", weight=weight)

    def on_epoch_end(self, stats, ctx):
        # Change here: when the weights are computed, and from what.
        if ctx.epoch == self.config.warmup_epochs:
            similarity = stats.of_every_class("robust_probability")  # (C, C), row i: images of class i
            lost, taken = similarity.sum(1), similarity.sum(0)  # both with the diagonal, which cancels
            self.state.weight = (1 + self.config.strength * (lost - taken)).clamp(min=0)
        ctx.log("weight", self.state.weight)
'''

FAAL = '''"""$title: in every batch, a class adversary weights the classes.

Idea       After the attack, the worst distribution over classes near the uniform one is computed from the
           mean loss of each class in the batch; it weights the samples. Nothing is kept between batches.
           (A working example on PGD-AT; describe your own idea here.)
Objective  mean_b (p_c / q_c) CE(f(x_adv_b), y_b), c = y_b, q uniform over the classes of the batch; p
           maximises sum_c p_c M_c where KL(q || p) <= radius, with M_c the mean loss of class c
Source     Written by `fairbench new method $name --like faal`.
Deviates   Not at all: there is no paper yet.
Cost       As PGD-AT.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, attacks, classes, losses, method


@method("$name", tags=("reweighting",))
class $class_name(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        radius: float = 0.5  # of the ball around the uniform distribution, >= 0; 0: exactly PGD-AT

        def __post_init__(self):
            if self.radius < 0:
                raise ValueError(f"radius is {self.radius}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the cross-entropy."""

        def aim(logits):
            return losses.cross_entropy(logits, batch.y)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="uniform", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        logits_adv = model(x_adv)
        # Change here: the base loss, and the risk (B,) of which the adversary gets the class means.
        loss = losses.cross_entropy(logits_adv, batch.y)
        risk = losses.cross_entropy(logits_adv, batch.y)
        return LossTerms(
            robust=loss,
            weight={"robust": self.class_weights(risk, batch.y)[batch.y]},  # weights have no gradient
            logits_adv=logits_adv,
        )

    def class_weights(self, risk, y):
        """p_c / q_c (C,) from the risks (B,) of the batch; 0 for a class without an image."""
        present = classes.class_counts(y, self.info.num_classes) > 0
        mean = classes.class_means(risk, y, self.info.num_classes)
        # Change here: the set of distributions, form="kl", "chi2", "entropic", "cvar" or "max".
        p = classes.worst_distribution(mean, self.config.radius, form="kl", present=present)
        return p * present.sum()
'''

RSLAD = '''"""$title: learn the predictions of a robust teacher.

Idea       Distillation: the teacher's prediction on the clean image is the target on the clean and on the
           adversarial image. (A working example; describe your own idea here.)
Objective  mean_b [ a KL(t_b || p(x_adv_b)) + (1 - a) KL(t_b || p(x_b)) ], with t_b the teacher's prediction
           on x_b; x_adv maximises the first KL
Source     Written by `fairbench new method $name --like rslad`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES, and a forward pass of the teacher.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, Needs, attacks, losses, method


@method("$name", tags=("distillation",))
class $class_name(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        adv_share: float = 0.8  # a, the share of the adversarial term, 0..1

        def __post_init__(self):
            if not 0 <= self.adv_share <= 1:
                raise ValueError(f"adv_share is {self.adv_share}, expected 0 to 1")

    needs = Needs(teachers={"teacher"})  # the registry entry says which network this is

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL from the teacher's prediction."""
        # Change here: the target of the attack. ctx.teacher("teacher") gives logits (B, C) without gradient,
        # of adversarial images too; those of batch.x are computed once per step.
        target = ctx.teacher("teacher")(batch.x)

        def aim(logits):
            return losses.kl(target, logits)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        target = ctx.teacher("teacher")(batch.x)
        logits_adv, logits = model(x_adv), model(batch.x)  # the order determines the BatchNorm statistics
        # Change here: the terms. For hard labels in addition: losses.cross_entropy(logits_adv, batch.y).
        return LossTerms(
            robust=self.config.adv_share * losses.kl(target, logits_adv),
            clean=(1 - self.config.adv_share) * losses.kl(target, logits),
            logits=logits,
            logits_adv=logits_adv,
        )
'''

FINE_TUNE = """\
    # fine_tune: {start: trades, epochs: 2, lr: 0.01, fixed: true}  # FAAL starts from trained weights
"""

TEACHER = """\
    teacher: {start: trades}  # a method, which is trained first
    # teacher: {start: trades, model: NAME}  # the same with a larger network
    # teacher: {weights: FILE, model: NAME}  # your own weights
"""


@dataclass(frozen=True)
class Skeleton:
    """A plugin to start from, and the components in its registry entry."""

    shape: str
    plugin: str
    option: str  # an example of a value per data set
    components: str = ""
    needs_registry: bool = False  # whether the method does not train without its registry entry


DEFAULT = Skeleton("a class weight that is updated after every epoch", FLOOR, "strength: 1.5")
SKELETONS = {
    "trades": Skeleton("an attack and a loss", TRADES, "beta: 4.0"),
    "dafa": Skeleton("class weights and radii from the confusion between classes", DAFA, "strength: 1.5"),
    "faal": Skeleton("a class adversary in every batch", FAAL, "radius: 0.3", FINE_TUNE),
    "rslad": Skeleton("a teacher", RSLAD, "adv_share: 0.7", TEACHER, needs_registry=True),
}
"""Skeletons by the method whose structure they follow."""

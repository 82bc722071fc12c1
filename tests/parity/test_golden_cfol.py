"""CFOL gives the numbers of its official program: one step, five updates of the bandit, and what it draws."""

import dataclasses

import fairbench_methods.cfol
import torch
from golden_case import Recorded, golden, one_step

from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet
from fairbench.data.stream import CropFlip, EpochStream
from fairbench.objectives.contract import DataInfo, build_config
from fairbench.objectives.loss_terms import LossTerms
from fairbench.training.class_sampling import ClassSampler

Cfol = fairbench_methods.cfol.Cfol
INPUT = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


def cfol(case, **options):
    """The method with the constants of the golden file, and eta as it is."""
    given = {name: case.hyper[name] for name in ("gamma", "eta")} | {"bonus": case.hyper["arm_bonus"]}
    return case.objective(Cfol, eta_images=0, **given, **options)


@golden("cfol", "cfol_reweight", "cfol_best")
def test_a_step_equals_the_official_program(case):
    form = "reweight" if case.name == "cfol_reweight" else "sampling"
    objective, model = cfol(case, form=form, keep_best=True), case.network(**INPUT)
    objective.state.log_weight.copy_(case.tensor("given/w"))
    close_shares(case, objective, "before")
    draws = Recorded(uniform=case.tensor("draw/00_rand"))
    ctx = case.context(draws)
    last = cfol(case, form=form).perturb(model.eval(), case.batch(), ctx)
    case.close_attack(last, "f64/x_adv_last")
    share = objective.class_share(ctx)
    settings = {name: case.hyper[name] for name in ("lr", "weight_decay")}
    seen = one_step(case, objective, model, ctx, **settings)
    case.close_step(model, seen)
    case.close_parameters(model, "param_after_step")
    terms = seen["terms"]
    case.close("losses", terms.terms["robust"], "f64/loss_per_sample")
    case.same((terms.logits_adv.argmax(1) != case.y).double(), "f64/arm_error")
    case.close("class values", objective.state.log_weight, "f64/w_after")
    close_shares(case, objective, "after")
    if form == "reweight":
        case.close("class values", terms.weight["robust"], "f64/sample_weights")
        case.close("class values", case.num_classes * share[case.y], "f64/sample_weights")
    kept_is_last = torch.equal(case.tensor("f64/x_adv"), case.tensor("f64/x_adv_last"))
    assert kept_is_last is (case.name != "cfol_best")


def close_shares(case, objective, when):
    """Compare q, and p with which the program draws: uniform when it weights the loss."""
    q = objective.state.log_weight.softmax(0)
    case.close("class values", q, f"f64/q_{when}")
    drawn = objective.class_share(None) if objective.config.form == "sampling" else torch.full_like(q, 0.1)
    case.close("class values", drawn, f"f64/p_{when}")


@golden("cfol_state")
def test_five_updates_of_the_bandit_equal_the_official_program(case):
    label = case.tensor("given/dataset_labels")
    case.y, case.num_classes, case.x = label, 10, torch.zeros(1, 3, 12, 12)
    for kind in ("uniform", "empirical", "reweight"):
        form = {"form": "reweight"} if kind == "reweight" else {"base": kind}
        objective, alone = cfol(case, **form), replace_gamma(cfol(case, **form), 1.0)

        def close(name, value, update, kind=kind):
            key = f"f64/{kind}/{name}"
            case.close("class values", value, key, through=lambda golden: golden[update])

        for update in range(6):
            share, weight = objective.class_share(None), objective.state.log_weight
            close("w", weight, update)
            close("q", weight.softmax(0), update)
            close("p", torch.full_like(share, 0.1) if kind == "reweight" else share, update)
            if update < 5:
                y, error = (case.tensor(f"given/update{update}/{name}") for name in ("y", "error"))
                base = share if kind == "reweight" else alone.class_share(None)
                close("batch_weight", base[y], update)
                objective.on_step_end(*answered(y, error), None)
    draws_equal(case, label)


def replace_gamma(objective, gamma):
    objective.config = dataclasses.replace(objective.config, gamma=gamma)
    return objective


def answered(y, error):
    """A batch of these labels, and terms that classify those with an error as another class."""
    logits = torch.nn.functional.one_hot((y + error) % 10, 10).double()
    index = torch.arange(len(y))
    return Batch(torch.zeros(len(y), 3, 12, 12), y, index), LossTerms(logits_adv=logits)


class RecordedPlaces:
    """The classes and the places in them that the program drew, one image at a time."""

    def __init__(self, case, count):
        self.label, self.place = case.tensor("draw/multinomial"), case.tensor("draw/randint")
        self.count = count

    def choice(self, weight):
        assert len(weight) == len(self.label)
        return self.label

    def uniform(self, like):
        return (self.place + 0.5) / self.count[self.label]


def draws_equal(case, label):
    """The images that fairbench chooses for the drawn classes and places are those of the program."""
    images = ImageSet(torch.zeros(len(label), 3, 12, 12, dtype=torch.uint8), label, 10, tuple("abcdefghij"))
    stream = EpochStream(images, seed=0, epoch=1, batch_size=25, augmentation=CropFlip())
    sampler = ClassSampler(stream)
    sampler.choose(1, torch.ones(10), RecordedPlaces(case, torch.bincount(label)))
    chosen = stream.batch(1)
    case.same(chosen.index, "f64/uniform/drawn_indices")
    assert torch.equal(chosen.y, case.tensor("draw/multinomial"))


def test_eta_is_scaled_to_the_number_of_images():
    info = DataInfo(2, (100, 100), (3, 8, 8))
    scaled, plain = (
        Cfol(build_config(Cfol, {"eta_images": images}), info, torch.device("cpu")).eta()
        for images in (40000, 0)
    )
    assert scaled == plain * 200

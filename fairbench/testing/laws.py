"""The laws that every method has to keep, in the order in which `fairbench check` prints them."""

from fairbench.testing import (
    attack_laws,
    class_laws,
    cost_laws,
    count_laws,
    device_laws,
    option_laws,
    purity_laws,
    shown_laws,
    source_laws,
    strength_laws,
    term_laws,
    training_laws,
)
from fairbench.testing.law import Law

RUNS = ("terms", "training")
_ALL = (
    Law("terms", "perturb and loss run, and the loss is well-formed and finite", attack_laws.well_formed),
    Law("training", "training runs with all hooks", training_laws.trains, ("terms",)),
    Law("budget", "images stay in [0, 1] and in the declared ball", attack_laws.within_budget, RUNS),
    Law("attack", "the attack raises the loss", strength_laws.raises_the_loss, (*RUNS, "budget")),
    Law("purity", "class_share, budget, perturb, loss and validate change nothing", purity_laws.pure, RUNS),
    Law("batchnorm", "the attack treats BatchNorm as declared", attack_laws.batch_norm_as_declared, RUNS),
    Law("source", "nothing but what is given is used", source_laws.uses_what_it_is_given, RUNS),
    Law("samples", "loss terms keep samples apart", term_laws.keeps_samples_apart, RUNS),
    Law(
        "absent-class",
        "the missing accuracy of a class without images is not treated as 0",
        class_laws.absent_is_not_zero,
        RUNS,
    ),
    Law("class-count", "no number of classes is assumed", count_laws.reads_the_number_of_classes, RUNS),
    Law("draws", "each draw has its own random numbers", class_laws.draws_once, RUNS),
    Law("shown", "the network is shown the given images", shown_laws.shows_what_it_says, RUNS),
    Law(
        "seeds",
        "the same seed gives the same result bit for bit, another seed another one",
        training_laws.deterministic,
        RUNS,
    ),
    Law("resume", "a resumed run equals an uninterrupted one", training_laws.resumes, (*RUNS, "seeds")),
    Law(
        "odd-batches", "unusual batches and epochs give finite results", training_laws.bears_odd_batches, RUNS
    ),
    Law(
        "two-labels",
        "training on images with two labels (Mixup) works, or is refused",
        training_laws.bears_two_labels,
        (*RUNS, "budget", "purity", "batchnorm", "seeds"),
    ),
    Law(
        "renaming",
        "results do not depend on the numbers of classes",
        training_laws.knows_no_class_by_number,
        RUNS,
    ),
    Law("waiting", "a step does not wait for the device", device_laws.never_waits, RUNS),
    Law("per-class", "a step has no loop over classes", device_laws.no_work_per_class, RUNS),
    Law(
        "device",
        "works on any device and in float64",
        device_laws.at_home_on_any_device,
        (*RUNS, "waiting", "seeds"),
    ),
    Law("options", "every option has an effect", option_laws.every_option_acts, RUNS),
    Law("cost", "a step is at most 20 times as slow as one of TRADES", cost_laws.affordable, RUNS),
)
LAWS = {law.name: law for law in _ALL}

"""The laws that every method keeps, in the order in which they are told."""

from fairbench.testing import attack_laws, cost_laws, device_laws, option_laws, training_laws
from fairbench.testing.law import Law

RUNS = ("terms", "training")
_ALL = (
    Law("terms", "perturb and loss run, and the loss is well-formed and finite", attack_laws.well_formed),
    Law("training", "training runs through all hooks", training_laws.trains, ("terms",)),
    Law("budget", "images stay in [0, 1] and in the declared ball", attack_laws.within_budget, RUNS),
    Law("purity", "budget, perturb, loss and validate change nothing", attack_laws.pure, RUNS),
    Law("batchnorm", "the attack treats BatchNorm as declared", attack_laws.batch_norm_as_declared, RUNS),
    Law("seeds", "a seed repeats bit for bit, another differs", training_laws.deterministic, RUNS),
    Law("resume", "a resumed run equals an uninterrupted one", training_laws.resumes, (*RUNS, "seeds")),
    Law("odd-batches", "odd batches and epochs do no harm", training_laws.bears_odd_batches, RUNS),
    Law(
        "two-labels",
        "images with two labels (Mixup) train, or are refused",
        training_laws.bears_two_labels,
        (*RUNS, "budget", "purity", "batchnorm", "seeds"),
    ),
    Law("renaming", "renamed classes are treated alike", training_laws.knows_no_class_by_number, RUNS),
    Law("waiting", "a step never waits for the device", device_laws.never_waits, RUNS),
    Law("per-class", "a step does no work per class", device_laws.no_work_per_class, RUNS),
    Law(
        "device",
        "every device and float64 will do",
        device_laws.at_home_on_any_device,
        (*RUNS, "waiting", "seeds"),
    ),
    Law("options", "every option does something", option_laws.every_option_acts, RUNS),
    Law("cost", "a step is affordable", cost_laws.affordable, RUNS),
)
LAWS = {law.name: law for law in _ALL}

"""One attack on one model, once: its outcomes, how they came about, and the images that prove them.

`OutcomeFiles` lists the files that are written.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import RecordError
from fairbench.core.files import make_folder, read_sealed, write_atomic, write_sealed
from fairbench.core.identity import digest, digest_bytes
from fairbench.core.regular import read_regular
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.adversarial_examples import write_examples
from fairbench.evaluation.evaluate import Outcomes, evaluate
from fairbench.evaluation.external_checkpoint import digest_weights
from fairbench.evaluation.journal import Journal
from fairbench.evaluation.verdicts import full_precision, logits_of
from fairbench.metrics.classwise import class_hits
from fairbench.records.outcomes import encoded, read_outcomes
from fairbench.records.progress import Progress
from fairbench.records.run_folder import OutcomeFiles
from fairbench.registry import AttackEntry
from fairbench.registry.fields import identity_settings
from fairbench.runner.device import describe_device
from fairbench.runner.provenance import versions

logger = logging.getLogger(__name__)

PROBED = 8  # images


def evaluate_into(
    files: OutcomeFiles,
    model: nn.Module,
    images: ImageSet,
    attack: AttackEntry | None,
    *,
    progress: Callable[[Progress], None],
    expected: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluate `attack` (None: clean) into `files`, unless complete files exist.

    Returns the values that the record stores: `digest`, `hits` by class, and `about`.

    `expected` is the file's SHA-256 when a record already has it; outcomes of a model whose logits
    differ now, because its code changed, are not used. An interrupted evaluation goes on behind its
    finished blocks. `check` is called before anything is written, to stop a worker that lost its lease.
    """
    settings = None if attack is None else identity_settings(attack)
    answers = probe(model, images)
    what = digest({"settings": settings, "weights": digest_weights(model.state_dict()), "answers": answers})
    journal = Journal(files.blocks, what, check)
    about = _known(files, expected, answers)
    if about is None:
        make_folder(files.rows.parent, parents=False)
        result = evaluate(model, images, attack, journal=journal, progress=progress)
        check()
        about = _write(files, result, model, images, attack, answers)
        logger.info(
            "evaluated %s into %s",
            "clean" if attack is None else attack.name,
            "/".join(files.rows.parts[-2:]),
        )
    journal.clear()
    digest_of_rows = digest_bytes(files.rows.read_bytes())
    rows = read_outcomes(files.rows, digest_of_rows)
    hits = class_hits(rows["correct"], rows["label"], images.num_classes)
    recorded: dict[str, Any] = {
        part: about[part] for part in ("stages", "health", "adversarial") if part in about
    }
    if files.about.exists():
        recorded["description"] = digest_bytes(read_regular(files.about))
    return {"digest": digest_of_rows, "hits": tuple(hits.tolist()), "about": recorded}


def _write(
    files: OutcomeFiles,
    result: Outcomes,
    model: nn.Module,
    images: ImageSet,
    attack: AttackEntry | None,
    answers: list[list[float]],
) -> dict[str, Any]:
    """Write the result of an evaluation, and the images that prove it; its description."""
    outcomes = encoded(result.label, result.prediction, result.correct, **result.columns)
    about = {
        "schema": 1,
        "outcomes": digest_bytes(outcomes),
        "settings": None if attack is None else identity_settings(attack),
        "images": len(result.label),
        "probe": answers,
        **result.about,
        "device": describe_device(images.device),
        "versions": versions(),
    }
    if result.adversarial is not None and attack is not None:
        here = result.adversarial.index.to(images.device)
        x, y = to_unit(images.images[here]), images.labels[here]
        proof = files.adversarial
        with frozen(model):
            write_examples(proof, model, x, y, result.adversarial, attack.eps, attack.norm)
        about["adversarial"] = {"file": proof.name, "digest": digest_bytes(proof.read_bytes())}
    write_sealed(files.about, about)
    # Last: if it exists, so do the others.
    write_atomic(files.rows, lambda file: file.write(outcomes))
    return about


def probe(model: nn.Module, images: ImageSet) -> list[list[float]]:
    """The model's logits on the first images, by which models are compared instead of by file names."""
    with frozen(model), full_precision():
        logits = logits_of(model, to_unit(images.images[:PROBED]))
    return [[round(value, 4) for value in row] for row in logits.tolist()]


def _known(files: OutcomeFiles, expected: str | None, answers: list[list[float]]) -> dict[str, Any] | None:
    """The description beside complete outcomes; {} where there is none, None when there are no outcomes."""
    try:
        about: Any = read_sealed(files.about)[0] if files.about.exists() else {}  # older ones have no digest
        if not isinstance(about, dict):
            return None
        read_outcomes(files.rows, expected or about.get("outcomes"))
    except RecordError:
        return None
    # Another device rounds otherwise; other code answers otherwise.
    same = np.allclose(about.get("probe", answers), answers, rtol=0.01, atol=0.01)
    return about if same else None

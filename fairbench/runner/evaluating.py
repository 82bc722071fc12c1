"""One attack on one model, once: its outcomes, how they came about, and the images that prove them.

Beside `NAME.npy` (one row per image) lie `NAME.json` (passes, seconds and findings by stage) and, for
ensembles, `NAME.adversarial.safetensors`. While at work `NAME.partial/` holds finished blocks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import RecordError
from fairbench.core.files import make_folder, read_json, write_json
from fairbench.core.identity import digest_bytes
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.evidence import write_evidence
from fairbench.evaluation.journal import Journal
from fairbench.evaluation.progress import Progress
from fairbench.records.outcomes import read_outcomes, write_outcomes
from fairbench.registry import AttackEntry
from fairbench.runner.device import describe_device
from fairbench.runner.provenance import versions


def evaluate_into(
    path: Path,
    model: nn.Module,
    images: ImageSet,
    attack: AttackEntry | None,
    *,
    progress: Callable[[Progress], None],
    expected: str | None = None,
) -> dict[str, Any]:
    """Evaluate `attack` (None: clean) into `path`, a .npy, unless it is there whole; a record's words on it.

    `expected` is the file's SHA-256 when a record already knows it. An interrupted evaluation goes on
    behind its finished blocks.
    """
    about_path = path.with_suffix(".json")
    try:
        read_outcomes(path, expected)
        about = read_json(about_path)
    except RecordError:
        make_folder(path.parent)
        journal = Journal(path.with_suffix(".partial"))
        found = evaluate(model, images, attack, journal=journal, progress=progress)
        about = {
            "schema": 1,
            "settings": None if attack is None else attack.model_dump(mode="json"),
            "images": len(found.label),
            **found.about,
            "device": describe_device(images.device),
            "versions": versions(),
        }
        if found.evidence is not None and attack is not None:
            here = found.evidence.index.to(images.device)
            x, y = to_unit(images.images[here]), images.labels[here]
            proof = path.with_suffix(".adversarial.safetensors")
            with frozen(model):
                write_evidence(proof, model, x, y, found.evidence, attack.eps, attack.norm)
            about["adversarial"] = {"file": proof.name, "digest": digest_bytes(proof.read_bytes())}
        write_json(about_path, about)
        # Last, because it says that the others are there.
        write_outcomes(path, found.label, found.prediction, found.correct, **found.columns)
        journal.clear()
    told = {part: about[part] for part in ("stages", "health") if part in about}
    return {"digest": digest_bytes(path.read_bytes()), "about": told}

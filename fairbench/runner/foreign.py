"""Evaluate a checkpoint that no run made, and remember the outcomes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fairbench.core.errors import RecordError
from fairbench.core.files import make_folder, write_json
from fairbench.core.identity import digest, digest_bytes
from fairbench.data.images import load_images
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.foreign import read_checkpoint
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights
from fairbench.models.wideresnet import UNUSED_PREFIXES
from fairbench.records.outcomes import read_outcomes, write_outcomes
from fairbench.registry import AttackEntry, DatasetEntry, ModelEntry
from fairbench.runner.device import choose_device, describe_device
from fairbench.runner.provenance import now, versions

FOLDER = "evaluations"


def evaluate_checkpoint(
    path: Path,
    model_entry: ModelEntry,
    dataset: DatasetEntry,
    attacks: dict[str, AttackEntry | None],
    *,
    data_root: Path,
    results: Path,
    device_name: str,
    subset_per_class: int | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Outcomes files by attack name, with class names; an attack that is on disk already is not run again.

    Raises the errors of a foreign file: CheckpointError, DataError, ConfigError.
    """
    weights = {
        name: value for name, value in read_checkpoint(path).items() if not name.startswith(UNUSED_PREFIXES)
    }
    device = choose_device(device_name)
    images = load_images(
        dataset.name,
        "test",
        root=data_root,
        device=device,
        reader=dataset.reader,
        subset_per_class=subset_per_class,
    )
    model = build_model(model_entry.target, images.num_classes, images.image_shape, seed=0)
    load_weights(model, weights, str(path))
    model.to(device)
    what = {
        "checkpoint": digest_bytes(path.read_bytes()),
        "model": model_entry.target,
        "images": digest_bytes(images.images.cpu().numpy().tobytes() + images.labels.cpu().numpy().tobytes()),
    }
    folder = make_folder(results / FOLDER / f"{path.stem[:40]}.{digest(what)}")
    write_json(
        folder / "evaluation.json",
        {
            "schema": 1,
            **what,
            "dataset": dataset.name,
            "versions": versions(),
            "device": describe_device(device),
            "time": now(),
        },
    )
    files = {}
    for name, attack in attacks.items():
        settings = None if attack is None else attack.model_dump(mode="json")
        file = folder / ("clean.npy" if attack is None else f"{name}.{digest(settings, 8)}.npy")
        try:
            read_outcomes(file)
        except RecordError:
            found = evaluate(model, images, attack, progress=partial(progress, name))
            write_outcomes(file, found.label, found.prediction, found.correct, **found.columns)
        files[name] = file
    return {"folder": folder, "files": files, "classes": images.classes}

"""A run folder: what it holds is read as it was written, prepared for what is asked, and has one status."""

import json
from dataclasses import replace

import pytest
from outcome_files import write_outcomes

from fairbench.core.errors import RecordError
from fairbench.core.files import write_sealed
from fairbench.core.lease import hold_lease
from fairbench.planning.resolve import resolve
from fairbench.planning.selection import parse_selection
from fairbench.records.read import Evaluation, FailedEvaluation, Record
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.status import Status
from fairbench.registry import load_registry
from fairbench.registry.attacks import impossible

REGISTRY = load_registry()


def planned(tmp_path, attacks="pgd-20", **chosen):
    """The cell of trades for these attacks: 12 epochs, the last five kept and selected."""
    options = {"suite": "quickstart", "methods": "trades", "seeds": "0", "attacks": attacks, **chosen}
    (cell,) = resolve(parse_selection(REGISTRY, **options), REGISTRY, tmp_path)[0]
    return cell


def recorded(run, cell, *evaluated, failures=(), num_classes=4):
    """Write a record of a training that is done; `evaluated`: attack and epoch, of "clean" too."""
    ids = {attack.name: attack.id for attack in cell.evaluation} | {"clean": "clean"}
    evaluations = []
    for name, epoch in evaluated:
        path = run.outcomes / f"{name}-{epoch}.npy"
        path.parent.mkdir(exist_ok=True)
        label = [c for c in range(num_classes) for _ in range(3)]
        digest = write_outcomes(path, label, label, [True, False, False] * num_classes)
        evaluations.append(
            Evaluation(name, epoch, f"outcomes/{path.name}", digest, ids[name], (1,) * num_classes, {})
        )
    record = Record(
        run.path,
        cell,
        "done",
        epoch=12,
        num_classes=num_classes,
        class_names=("cat", "dog", "cow", "hen")[:num_classes],
        class_count=(3,) * num_classes,
        epochs_evaluated=(11, 12),
        epochs_kept=(10, 11, 12),
        evaluations=tuple(evaluations),
        failures=tuple(FailedEvaluation(name, ids[name], 12, why) for name, why in failures),
        training={"folded": True},
        warnings=("odd",),
        seconds={"train": 1.0},
        finished="2026-11-22T10:00:00Z",
    )
    run.write_record(record)
    return record


def names(run):
    return {(attack.name, attack.at) for attack in run.read_cell().evaluation}


@pytest.mark.parametrize("state", ["done", "failed", "diverged"])
def test_a_record_is_read_as_it_was_written(tmp_path, state):
    cell = planned(tmp_path)
    run = ResultsFolder(tmp_path).prepare(cell)
    record = recorded(run, cell, ("clean", 12), failures=[("pgd-20", "no luck")])
    if state != "done":
        record = Record(run.path, cell, state, "why", 3, "memory", warnings=("odd",), finished="now")
        run.write_record(record)
    assert run.read() == record
    assert json.loads(run.record_file.read_text())["schema"] == 2


def test_typed_parts_of_a_cell_are_those_of_its_identity_and_a_misfit_is_named(tmp_path):
    cell = planned(tmp_path, averaging="ema")
    assert cell.code.model_dump(by_alias=True) == cell.identity["method"]
    assert cell.images.model_dump(mode="json") == cell.identity["dataset"]
    assert (cell.components.averaging.kind, cell.components.awp) == ("ema", None)
    assert cell.full_protocol is cell.training_protocol
    broken = replace(cell, identity={**cell.identity, "method": {"name": "trades"}, "protocol": {}})
    for part in ("code", "full_protocol", "training_protocol"):
        with pytest.raises(RecordError, match="in its identity cannot be read"):
            getattr(broken, part)


def test_the_status_is_of_the_attacks_that_are_asked_for(tmp_path):
    cell = planned(tmp_path, "pgd-20,autoattack@last")
    run = ResultsFolder(tmp_path).prepare(cell)
    assert run.recorded() == Status("partial", "interrupted")
    every = [("clean", 11), ("clean", 12), ("pgd-20", 11), ("pgd-20", 12), ("autoattack", 12)]
    recorded(run, cell, *every)
    assert run.status(cell) == Status("done")
    recorded(run, cell, *every[:-2])
    said = "not yet evaluated: pgd-20, autoattack"
    assert run.status(cell) == Status("partial", said)
    recorded(run, cell, *every[:-1], failures=[("autoattack", "no luck")])
    assert run.status(cell) == Status("failed", "autoattack: no luck")
    assert run.status(planned(tmp_path, "pgd-20")) == Status("done")
    (run.outcomes / "pgd-20-11.npy").unlink()
    assert run.status(planned(tmp_path, "pgd-20")).reason == "outcomes/pgd-20-11.npy is gone"
    with run.lease():
        assert run.status(cell).state == "running"
        assert run.recorded(cell).state == "failed"


def test_preparing_keeps_what_is_evaluated_and_drops_what_was_asked_for_in_vain(tmp_path):
    both, other = planned(tmp_path, "pgd-20@every,autoattack"), planned(tmp_path, "pgd-20-l2")
    results = ResultsFolder(tmp_path)
    run = results.prepare(both)
    recorded(run, both, ("clean", 11), ("clean", 12), ("pgd-20", 11), ("pgd-20", 12))
    results.prepare(other)
    assert names(run) == {("pgd-20", "selected"), ("pgd-20-l2", "selected")}
    results.prepare(both)
    assert names(run) == {("pgd-20", "every"), ("autoattack", "selected")}


def test_one_rule_says_which_attacks_a_finished_run_lists(tmp_path):
    both, other = planned(tmp_path, "pgd-20@every,autoattack"), planned(tmp_path, "pgd-20-l2")
    results = ResultsFolder(tmp_path)
    run = results.prepare(both)
    recorded(run, both, ("clean", 11), ("clean", 12), ("pgd-20", 11), ("pgd-20", 12))
    results.prepare(other, drop=False)
    assert len(names(run)) == 3
    with hold_lease(run.lease_file):
        run.list_attacks(other.evaluation, drop=True)
    assert len(names(run)) == 3
    run.list_attacks(both.evaluation, drop=True)
    assert names(run) == {("pgd-20", "every"), ("autoattack", "selected")}
    run.list_attacks(other.evaluation)
    assert len(names(run)) == 3
    run.list_attacks((), drop=True)
    assert names(run) == {("pgd-20", "selected")}


def test_the_clean_images_are_evaluated_wherever_an_attack_is(tmp_path):
    cell = planned(tmp_path, "pgd-20@every")
    run = ResultsFolder(tmp_path).prepare(cell)
    attacked = [("pgd-20", epoch) for epoch in (10, 11, 12)]
    recorded(run, cell, ("clean", 11), ("clean", 12), *attacked, failures=[("clean", "no luck")])
    assert run.status() == Status("failed", "clean: no luck")
    assert run.status(planned(tmp_path, "pgd-20")) == Status("done")
    recorded(run, cell, *(("clean", epoch) for epoch in (10, 11, 12)), *attacked)
    assert run.status() == Status("done")


@pytest.mark.parametrize("why", ["held", "preparation"])
def test_preparing_drops_nothing_of_a_run_at_work_or_for_a_start(tmp_path, why):
    both, other = planned(tmp_path, "pgd-20,autoattack"), planned(tmp_path, "pgd-20-l2")
    results = ResultsFolder(tmp_path)
    run = results.prepare(both)
    if why == "held":
        with hold_lease(run.lease_file):
            results.prepare(other)
        assert len(names(run)) == 3
    else:
        results.prepare(replace(other, evaluation=(), preparation=True))
        assert len(names(run)) == 2
        assert not run.read_cell().preparation


def test_an_impossible_attack_of_an_older_cell_is_not_asked_for(tmp_path):
    cell = planned(tmp_path, "pgd-20,autoattack")
    run = ResultsFolder(tmp_path).prepare(cell)
    every = [("clean", 11), ("clean", 12), ("pgd-20", 11), ("pgd-20", 12)]
    recorded(run, cell, *every, num_classes=3)
    assert run.status() == Status("done")
    recorded(run, cell, *every)
    assert run.status().reason == "not yet evaluated: autoattack"


@pytest.mark.parametrize(
    ("reason", "errors"),
    [
        ("pgd-20: no luck", {"pgd-20": "no luck", "fab-t": "pgd-20: no luck"}),
        ("pgd-20: no luck; bad: day; fab-t: why", {"pgd-20": "no luck; bad: day", "fab-t": "why"}),
        ("a later evaluation failed: gone", {"pgd-20": "gone", "fab-t": "gone"}),
    ],
)
def test_the_reason_of_a_record_of_schema_1_is_of_its_evaluations(tmp_path, reason, errors):
    cell = planned(tmp_path, "pgd-20,fab-t")
    run = ResultsFolder(tmp_path).prepare(cell)
    record = recorded(run, cell, ("clean", 11), ("clean", 12))
    write_sealed(run.record_file, {**record.to_json(), "schema": 1, "reason": reason})
    read = run.read()
    assert {failure.attack: failure.error for failure in read.failures} == errors
    assert replace(read, failures=()) == record
    assert run.status().state == "failed"


def test_what_is_impossible_is_told_by_the_number_of_classes():
    attack = REGISTRY.get("attack", "autoattack")
    assert impossible(attack, 3) == "it needs at least 4 classes, and there are 3"
    assert not impossible(attack, 4)
    assert not impossible(attack, None)
    for name in ("pgd-20", "pgd-20-targeted", "a3", "fab-t"):
        assert not impossible(REGISTRY.get("attack", name), 2)


def test_the_provenance_of_another_run_and_a_changed_one_are_refused(tmp_path):
    cells = [planned(tmp_path), planned(tmp_path, seeds="1")]
    one, other = (ResultsFolder(tmp_path).prepare(cell) for cell in cells)
    for run in (one, other):
        run.write_attempt({"command": [run.name]})
        run.write_attempt({"command": ["again"]})
        assert [attempt["command"] for attempt in run.attempts()] == [[run.name], ["again"]]
    content = one.provenance_file.read_bytes()
    one.provenance_file.write_bytes(other.provenance_file.read_bytes())
    with pytest.raises(RecordError, match="is that of another run"):
        one.attempts()
    one.provenance_file.write_bytes(content.replace(b"again", b"other"))
    with pytest.raises(RecordError, match="does not match its digest"):
        one.attempts()


def test_a_curve_that_is_not_the_records_is_not_used(tmp_path, caplog):
    cell = planned(tmp_path)
    run = ResultsFolder(tmp_path).prepare(cell)
    run.append_epoch({"epoch": 1, "seconds": 1.0})
    record = replace(recorded(run, cell, ("clean", 12)), curve=run.curve_digest())
    run.write_record(record)
    assert run.read() == record
    assert len(run.curve_of(record)) == 1
    run.append_epoch({"epoch": 2, "seconds": 1.0})
    assert run.curve_of(record) == []
    assert "its training curve was changed" in caplog.text

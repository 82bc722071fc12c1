"""A run folder has one worker at a time, and a dead one does not keep it."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from fairbench.core import lease as lease_module
from fairbench.core import processes
from fairbench.core.errors import LeaseHeldError, ResultsError
from fairbench.core.lease import EXPIRY_SECONDS, Lease, LeaseWatch, hold_lease, is_live, read_lease


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(
        lease_module, "HEARTBEAT_SECONDS", 0.02
    )  # a claim that looks dead is watched for some
    return tmp_path / "claim"


def owned_by(path, pid=1, host="elsewhere", token="theirs", silent=0.0):
    """A claim file of somebody who has not touched it for `silent` seconds."""
    path.write_text(json.dumps({"token": token, "host": host, "pid": pid, "since": 0}))
    os.utime(path, (time.time() - silent,) * 2)


def dead_process():
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    return ended.pid


def test_a_claim_lasts_as_long_as_its_block_and_leaves_nothing(path):
    with hold_lease(path) as held:
        assert held.holds()
        held.check()
        owner = read_lease(path)
        assert owner["pid"] == os.getpid()
        assert owner["host"] == socket.gethostname()
        assert is_live(path, owner)
    assert list(path.parent.iterdir()) == []


def test_a_claim_is_released_when_the_work_fails(path):
    with pytest.raises(KeyError), hold_lease(path):
        raise KeyError
    assert not path.exists()


def test_a_claim_is_exclusive_even_in_one_process(path):
    with hold_lease(path) as held:
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()}") as error, hold_lease(path):
            pass
        assert "fairbench status" in error.value.hint
        assert held.holds()


def test_a_live_owner_elsewhere_is_respected(path):
    owned_by(path, silent=EXPIRY_SECONDS / 2)
    with pytest.raises(LeaseHeldError, match="on elsewhere"), hold_lease(path):
        pass
    assert read_lease(path)["token"] == "theirs"


@pytest.mark.parametrize("text", ["", "{", '{"token": ', "12"])
def test_a_claim_cut_off_by_a_crash_expires_like_any_other(path, text):
    path.write_text(text)
    with pytest.raises(LeaseHeldError), hold_lease(path):
        pass
    os.utime(path, (0, 0))
    with hold_lease(path) as held:
        assert held.holds()


def test_a_silent_owner_elsewhere_is_replaced(path):
    owned_by(path, silent=EXPIRY_SECONDS + 1)
    with hold_lease(path) as held:
        assert held.holds()
    assert list(path.parent.iterdir()) == []


def test_a_dead_owner_on_this_host_is_replaced_at_once(path):
    owned_by(path, pid=dead_process(), host=socket.gethostname())
    with hold_lease(path) as held:
        assert held.holds()


def test_a_live_process_on_this_host_is_respected(path):
    owned_by(path, pid=os.getppid(), host=socket.gethostname())
    with pytest.raises(LeaseHeldError), hold_lease(path):
        pass


def test_a_lost_claim_is_noticed_and_left_to_its_new_owner(path):
    with hold_lease(path) as held:
        owned_by(path, token="new")
        assert not held.holds()
        with pytest.raises(LeaseHeldError, match="taken over by another worker"):
            held.check()
    assert read_lease(path)["token"] == "new"


def test_a_claim_that_vanished_is_lost_too(path):
    assert read_lease(path) is None
    with pytest.raises(LeaseHeldError):
        Lease(path, "mine").check()
    assert not is_live(path, {"host": "elsewhere"})


def test_a_folder_that_cannot_be_claimed_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot take the lease"), hold_lease(tmp_path / "file" / "claim"):
        pass


def test_an_owner_whose_clock_is_an_hour_behind_is_respected_while_it_beats(path):
    owned_by(path, silent=3600.0)
    stop = threading.Event()

    def beat():
        for k in range(10**6):
            os.utime(path, (k, k))
            if stop.wait(0.005):
                return

    beating = threading.Thread(target=beat)
    beating.start()
    with pytest.raises(LeaseHeldError), hold_lease(path):
        pass
    stop.set()
    beating.join()
    assert read_lease(path)["token"] == "theirs"


def test_a_watch_finds_a_dead_owner_whose_clock_was_ahead(path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(lease_module.time, "monotonic", lambda: now[0])
    owned_by(path, silent=-86400.0)
    watch = LeaseWatch()
    with pytest.raises(LeaseHeldError), hold_lease(path):
        pass
    assert not watch.remove_dead(path)
    now[0] += EXPIRY_SECONDS - 1
    os.utime(path, (5, 5))  # it beats
    assert not watch.remove_dead(path)
    now[0] += EXPIRY_SECONDS - 1
    os.utime(path, (time.time() + 86400,) * 2)
    assert not watch.remove_dead(path)
    now[0] += EXPIRY_SECONDS + 1
    assert watch.remove_dead(path)
    assert not watch.remove_dead(path)
    with hold_lease(path) as held:
        assert held.holds()
        assert not watch.remove_dead(path)


def test_another_process_with_the_number_of_a_dead_one_does_not_keep_its_claim(path):
    path.write_text(
        json.dumps(
            {"token": "t", "pid": os.getpid(), "machine": processes.machine(), "born": "1", "host": "h"}
        )
    )
    with hold_lease(path) as held:
        assert held.holds()


def test_the_same_number_in_another_container_says_nothing(path):
    """Its process cannot be seen from here, so it counts as alive while it beats."""
    path.write_text(json.dumps({"token": "t", "pid": dead_process(), "machine": "boot pid:[1]", "host": "h"}))
    with pytest.raises(LeaseHeldError), hold_lease(path):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # on purpose, with the beating thread
def test_a_forked_copy_neither_holds_nor_frees_the_claim(path):
    with hold_lease(path) as held:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                held.check()
            except LeaseHeldError as error:
                os.write(writer, error.hint.encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"os.fork" in os.read(reader, 1000)
        for end in (reader, writer):
            os.close(end)
        assert held.holds()


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_links_will_do(path, monkeypatch, error):
    def refuse(*arguments):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(lease_module.os, "link", refuse)
    with hold_lease(path) as held:
        assert held.holds()
        with pytest.raises(LeaseHeldError), hold_lease(path):
            pass
    assert list(path.parent.iterdir()) == []


RACE = """
import sys
from pathlib import Path
from fairbench.core import lease as lease_module
from fairbench.core.lease import hold_lease
from fairbench.core.errors import LeaseHeldError
lease_module.HEARTBEAT_SECONDS = 0.1
print("ready", flush=True)
sys.stdin.readline()
try:
    with hold_lease(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except LeaseHeldError:
    print("refused", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("stale", [False, True])
def test_of_racing_processes_exactly_one_holds_the_claim(path, stale):
    if stale:
        owned_by(path, silent=EXPIRY_SECONDS + 1)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    def tell(racer):
        racer.stdin.write("\n")
        racer.stdin.flush()

    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 3
        for racer in racers:
            tell(racer)
        answers = sorted(racer.stdout.readline().strip() for racer in racers)
        assert answers == ["held", "refused", "refused"]
        for racer in racers:
            tell(racer)
        assert [racer.wait(20) for racer in racers] == [0, 0, 0]
        assert list(path.parent.iterdir()) == []
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            racer.stdin.close()
            racer.stdout.close()


@pytest.mark.parametrize(("silent", "live"), [(1.0, True), (300.0, False)])
def test_a_clock_ten_minutes_ahead_does_not_make_a_live_owner_elsewhere_look_dead(
    path, monkeypatch, silent, live
):
    owned_by(path, silent=silent)
    now = time.time()
    monkeypatch.setattr(lease_module.time, "time", lambda: now + 600)
    assert is_live(path, read_lease(path)) is live
    assert list(path.parent.iterdir()) == [path]

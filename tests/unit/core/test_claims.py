"""A run folder has one worker at a time, and a dead one does not keep it."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from fairbench.core.claims import EXPIRY_SECONDS, Claim, claim, is_live, read_claim
from fairbench.core.errors import ClaimedError, ResultsError


@pytest.fixture
def path(tmp_path):
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
    with claim(path) as held:
        assert held.holds()
        held.check()
        owner = read_claim(path)
        assert owner["pid"] == os.getpid()
        assert owner["host"] == socket.gethostname()
        assert is_live(path, owner)
    assert list(path.parent.iterdir()) == []


def test_a_claim_is_released_when_the_work_fails(path):
    with pytest.raises(KeyError), claim(path):
        raise KeyError
    assert not path.exists()


def test_a_claim_is_exclusive_even_in_one_process(path):
    with claim(path) as held:
        with pytest.raises(ClaimedError, match=f"process {os.getpid()}") as error, claim(path):
            pass
        assert "fairbench status" in error.value.hint
        assert held.holds()


def test_a_live_owner_elsewhere_is_respected(path):
    owned_by(path, silent=EXPIRY_SECONDS / 2)
    with pytest.raises(ClaimedError, match="on elsewhere"), claim(path):
        pass
    assert read_claim(path)["token"] == "theirs"


@pytest.mark.parametrize("text", ["", "{", '{"token": ', "12"])
def test_a_claim_cut_off_by_a_crash_expires_like_any_other(path, text):
    path.write_text(text)
    with pytest.raises(ClaimedError), claim(path):
        pass
    os.utime(path, (0, 0))
    with claim(path) as held:
        assert held.holds()


def test_a_silent_owner_elsewhere_is_replaced(path):
    owned_by(path, silent=EXPIRY_SECONDS + 1)
    with claim(path) as held:
        assert held.holds()
    assert list(path.parent.iterdir()) == []


def test_a_dead_owner_on_this_host_is_replaced_at_once(path):
    owned_by(path, pid=dead_process(), host=socket.gethostname())
    with claim(path) as held:
        assert held.holds()


def test_a_live_process_on_this_host_is_respected(path):
    owned_by(path, pid=os.getppid(), host=socket.gethostname())
    with pytest.raises(ClaimedError), claim(path):
        pass


def test_a_lost_claim_is_noticed_and_left_to_its_new_owner(path):
    with claim(path) as held:
        owned_by(path, token="new")
        assert not held.holds()
        with pytest.raises(ClaimedError, match="taken over by another worker"):
            held.check()
    assert read_claim(path)["token"] == "new"


def test_a_claim_that_vanished_is_lost_too(path):
    assert read_claim(path) is None
    with pytest.raises(ClaimedError):
        Claim(path, "mine").check()
    assert not is_live(path, {"host": "elsewhere"})


def test_a_folder_that_cannot_be_claimed_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot claim"), claim(tmp_path / "file" / "claim"):
        pass


RACE = """
import sys
from pathlib import Path
from fairbench.core.claims import claim
from fairbench.core.errors import ClaimedError
print("ready", flush=True)
sys.stdin.readline()
try:
    with claim(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except ClaimedError:
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

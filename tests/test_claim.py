"""A claim: one program at a time, and none for longer than it lives."""

import signal
import subprocess
import sys

import pytest

from gislab import claim


class Taken(Exception):
    pass


HOLD = ("import pathlib, sys; from gislab import claim\n"
        "with claim.held(pathlib.Path(sys.argv[1]), ValueError()):\n"
        "    print('held', flush=True); sys.stdin.read()")


def test_a_second_one_is_refused_and_told_what_to_do_until_the_first_ends(tmp_path):
    lock = tmp_path / "lock"
    with claim.held(lock, Taken()):
        assert claim.mine(lock)
        with pytest.raises(Taken, match="wait for it"), claim.held(lock, Taken("wait for it")):
            pytest.fail("it was given twice")
        assert claim.mine(lock)
    assert not claim.mine(lock)
    with claim.held(lock, Taken()):
        pass


def test_an_error_in_the_block_frees_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim.held(tmp_path / "lock", Taken()):
        raise KeyboardInterrupt
    with claim.held(tmp_path / "lock", Taken()):
        pass


def test_the_claim_of_a_killed_program_is_gone_with_it(tmp_path):
    lock = tmp_path / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n" and not claim.mine(lock)
    with pytest.raises(Taken), claim.held(lock, Taken()):
        pytest.fail("it was given twice")
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with claim.held(lock, Taken()):
        pass


def test_who_comes_second_waits_for_its_turn_and_is_told(tmp_path):
    lock, said = tmp_path / "home" / "lock", []
    with claim.turn(lock, "the images", say=said.append):
        pass
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"

    def tell(text: str) -> None:
        said.append(text)
        other.stdin.close()  # so it ends
    with claim.turn(lock, "the images", say=tell):
        assert other.wait(timeout=10) == 0
    assert said == ["the images: another program is at work there; waiting for its end"]

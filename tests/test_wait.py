"""Waiting ends with the answer, with the reason, or at once."""

import time

import pytest

from gislab import wait
from gislab.wait import NotYet, WaitTimeout, until


def answers(*replies):
    """A question that gives these replies, one at each call; exceptions are raised."""
    left = list(replies)

    def ask():
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply
    return ask


def test_the_first_answer_is_returned_even_if_it_is_false():
    assert until(answers(NotYet("1"), NotYet("2"), 0), what="x", timeout=5, every=0.001) == 0


def test_a_question_is_asked_at_least_once_and_not_waited_for_in_vain():
    assert until(lambda: "here", what="x", timeout=0) == "here"
    start = time.monotonic()
    with pytest.raises(WaitTimeout):
        until(answers(NotYet("no")), what="x", timeout=0.2, every=10)
    assert time.monotonic() - start < 0.2


def test_what_did_not_come_is_told_with_its_time_and_its_last_reason():
    ask = answers(NotYet("none Ready"), NotYet("only 1 of 3 nodes Ready"))
    with pytest.raises(TimeoutError, match=r"^swarm ready: not there after 0.05 s "
                                           r"\(only 1 of 3 nodes Ready\)$"):
        until(ask, what="swarm ready", timeout=0.05, every=0.01)


def test_a_rescue_is_called_once_and_only_when_it_is_wanted():
    done = []
    assert wait.rescued(answers("here"), lambda: done.append(1), what="x", patience=0,
                        timeout=9) == "here"
    with pytest.raises(WaitTimeout):  # whoever has no patience does that himself
        wait.rescued(answers(NotYet("no")), lambda: done.append(1), what="x", patience=9,
                     timeout=0)
    assert done == []
    with pytest.raises(WaitTimeout):
        wait.rescued(answers(NotYet("no")), lambda: done.append(1), what="x", patience=0,
                     timeout=0.01, every=0.001)
    assert done == [1]
    assert wait.rescued(answers(NotYet("no"), "here"), lambda: done.append(2), what="x",
                        patience=0, timeout=9) == "here"
    assert done == [1, 2]


def test_errors_that_mean_not_yet_are_told_by_their_last_line_and_others_pass():
    with pytest.raises(NotYet, match="^gone$"):
        wait.patiently(answers(OSError("a\nb\ngone\n")), OSError, KeyError)
    with pytest.raises(ZeroDivisionError):
        wait.patiently(answers(ZeroDivisionError()), OSError)
    assert wait.patiently(answers(0), OSError) == 0


def test_any_other_error_passes_at_once():
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        until(answers(ZeroDivisionError()), what="x", timeout=60, every=60)
    assert time.monotonic() - start < 1


def test_each_new_reason_is_told_once_also_where_two_take_turns():
    told = []
    until(answers(*map(NotYet, "aabab"), 1), what="the lab", timeout=5, every=0.001,
          progress=told.append)
    assert told == ["waiting for the lab: a", "waiting for the lab: b"]


def test_a_reason_that_lasts_is_told_again(monkeypatch):
    monkeypatch.setattr(wait, "AGAIN", 0.05)
    told = []
    with pytest.raises(WaitTimeout):
        until(answers(NotYet("a")), what="x", timeout=0.4, every=0.001, progress=told.append)
    assert 2 <= len(told) <= 8 and set(told) == {"waiting for x: a"}


def test_the_wait_is_counted_by_a_clock_that_nobody_sets(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0)
    with pytest.raises(WaitTimeout):
        until(answers(NotYet("no")), what="x", timeout=0.02, every=0.005)

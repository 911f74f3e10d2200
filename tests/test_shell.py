"""Commands go through one door, and say where, what and why when they fail."""

import io
import tarfile
import time

import pytest

from gislab.settings import Machine
from gislab.shell import (
    CommandFailed,
    Local,
    Recorded,
    Result,
    Ssh,
    Unreachable,
    archive,
)


def test_a_command_here_gives_what_it_wrote():
    done = Local().run(["sh", "-c", "cat; echo oops >&2"], input="hello")
    assert (done.code, done.out, done.err) == (0, "hello", "oops\n")


def test_words_reach_the_command_as_they_are():
    words = ["two words", "$HOME", "; rm -rf x", "'"]
    assert Local().run(["printf", "%s|", *words]).out == "|".join(words) + "|"


def test_an_environment_is_added_to_the_own_one(monkeypatch):
    monkeypatch.setenv("KEPT", "yes")
    done = Local().run(["sh", "-c", "echo $KEPT $GIVEN"], env={"GIVEN": "too"})
    assert done.out == "yes too\n"


def test_a_failure_shows_where_what_code_and_words():
    with pytest.raises(CommandFailed) as caught:
        Local().run(["sh", "-c", "echo no such pool >&2; exit 3"])
    assert str(caught.value) == ("this machine: sh -c 'echo no such pool >&2; exit 3'\n"
                                 "  exit code 3; it said: no such pool")


def test_a_failure_that_is_expected_is_a_result():
    assert Local().run(["false"], check=False).code == 1


def test_a_program_that_is_not_there_is_named_with_the_remedy():
    with pytest.raises(CommandFailed, match="gislab-nothing is not installed; gislab doctor"):
        Local().run(["gislab-nothing"], check=False)


def test_a_command_that_hangs_is_ended_and_told():
    start = time.monotonic()
    with pytest.raises(Unreachable, match="no end after 0.3 s"):
        Local().run(["sleep", "30"], timeout=0.3)
    assert time.monotonic() - start < 5


def test_a_command_that_asks_a_question_gets_no_answer_instead_of_waiting():
    assert Local().run(["cat"], timeout=5).out == ""


def test_output_that_is_no_utf8_is_not_an_error():
    assert Local().run(["printf", r"\377"]).out == "\ufffd"


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    """A function that puts a script in the place of `ssh`; its words land in a file."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(ending: str):
        script = tmp_path / "ssh"
        script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\n{ending}\n')
        script.chmod(0o755)
        return tmp_path / "words"
    return write


def pi(tmp_path, **facts):
    return Ssh(Machine("pi1", "192.0.2.1", **facts), key=tmp_path / "key",
               known_hosts=tmp_path / "known_hosts")


def test_over_ssh_the_words_are_quoted_for_the_far_shell(fake_ssh, tmp_path):
    words = fake_ssh("echo done")
    assert pi(tmp_path).run(["echo", "a b", "$x"]).out == "done\n"
    sent = words.read_text().splitlines()
    assert sent[-3:] == ["root@192.0.2.1", "--", "echo 'a b' '$x'"]
    assert "BatchMode=yes" in sent, "a question for a password would hang a notebook"


def test_another_user_than_root_goes_through_sudo_that_does_not_ask(fake_ssh, tmp_path):
    words = fake_ssh("")
    pi(tmp_path, user="pi", ssh_port=2222).run(["docker", "ps"])
    sent = words.read_text().splitlines()
    assert sent[-3:] == ["pi@192.0.2.1", "--", "sudo -n docker ps"] and "2222" in sent


def test_a_machine_that_does_not_answer_is_told_apart_from_a_command_that_failed(
        fake_ssh, tmp_path):
    fake_ssh("echo 'connect to host 192.0.2.1: No route to host' >&2; exit 255")
    with pytest.raises(Unreachable, match="(?s)pi1: true.*No route to host"):
        pi(tmp_path).run(["true"], check=False)
    fake_ssh("exit 4")
    with pytest.raises(CommandFailed) as caught:
        pi(tmp_path).run(["false"])
    assert not isinstance(caught.value, Unreachable)


def test_the_socket_of_the_shared_connection_fits_into_a_long_home(fake_ssh, tmp_path):
    words = fake_ssh("")
    pi(tmp_path).run(["true"])
    path = next(w for w in words.read_text().splitlines() if w.startswith("ControlPath="))
    assert len(path) - len(f"ControlPath={tmp_path}") < 15


def test_a_recording_answers_the_longest_match_and_keeps_what_was_sent():
    remote = Recorded({("docker",): "any", ("docker", "node", "ls"): "nodes",
                       ("docker", "rm"): Result((), 1, "", "no such container")})
    assert remote.run(["docker", "node", "ls", "-q"]).out == "nodes"
    assert remote.run(["docker", "ps"], input="x").out == "any"
    with pytest.raises(CommandFailed, match="no such container"):
        remote.run(["docker", "rm", "x"])
    assert remote.commands[1] == ("docker", "ps") and remote.inputs[1] == "x"


def test_a_command_that_was_not_recorded_is_an_error_and_not_an_empty_answer():
    with pytest.raises(AssertionError, match="no recorded answer for docker ps"):
        Recorded({}).run(["docker", "ps"])


def test_an_archive_holds_the_files_for_anybody_to_read():
    with tarfile.open(fileobj=io.BytesIO(archive({"a/b": b"1", "c": b""}))) as tar:
        assert tar.getnames() == ["a/b", "c"] and tar.extractfile("a/b").read() == b"1"
        assert {m.mode for m in tar} == {0o644}


def test_a_command_that_goes_on_is_heard_line_by_line_until_it_is_closed():
    heard = Local().listen(["sh", "-c", "cat; echo after the end of its input"], input="one\n")
    lines = iter(heard)
    assert next(lines) == "one"  # while its input is open still: nothing has ended
    heard.close()
    assert list(lines) == [] and heard._process.returncode == -9


def test_a_command_that_ends_at_once_has_no_lines_and_is_no_error():
    heard = Local().listen(["true"], input="x" * 1_000_000)
    assert list(heard) == []
    heard.close()


def test_a_recording_is_heard_like_a_machine():
    recorded = Recorded({("perl",): "1\n2\n"})
    heard = recorded.listen(["perl", "-e", "x"], input="text")
    lines = iter(heard)
    assert [next(lines), next(lines)] == ["1", "2"] and heard._process.poll() is None
    heard.close()
    assert list(lines) == [] and recorded.inputs == ["text"]

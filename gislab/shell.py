"""The one door for commands: on this machine, over SSH, or from a recording."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .settings import Machine


@dataclass(frozen=True)
class Result:
    """What a command did: its words, exit code, and what it wrote."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str


class CommandFailed(RuntimeError):
    """A command ended badly: shows where, what, its exit code and what it said."""

    def __init__(self, where: str, result: Result):
        said = (result.err.strip() or result.out.strip() or "nothing")[-1500:]
        super().__init__(f"{where}: {shlex.join(result.command)[:400]}\n"
                         f"  exit code {result.code}; it said: {said}")
        self.where, self.result = where, result


class Unreachable(CommandFailed):
    """A machine did not answer over SSH, or not in time."""


class Remote(Protocol):
    """Where commands run. A real Pi, a virtual one and a recording are the same to a caller."""

    name: str

    def run(self, args: Sequence[str], *, input: bytes | str | None = None,
            check: bool = True, timeout: float = 60) -> Result: ...

    def listen(self, args: Sequence[str], *, input: str = "") -> Heard: ...


class Heard:
    """A command that goes on, and its lines as they come; `close` ends both, from any thread.

    Its input stays open after `input`, so that the command knows when nobody listens any more.
    """

    def __init__(self, argv: Sequence[str], input: str):
        self._process = subprocess.Popen(list(argv), stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                         start_new_session=True)  # Ctrl-C is not meant for it
        try:
            self._process.stdin.write(input.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already, and so have its lines

    def __iter__(self) -> Iterator[str]:
        for line in self._process.stdout:
            yield line.decode(errors="replace").rstrip("\n")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # its children know by this, too


class Local:
    """Commands on this machine."""

    name = "this machine"

    def run(self, args: Sequence[str], *, input: bytes | str | None = None, check: bool = True,
            timeout: float = 60, env: dict[str, str] | None = None) -> Result:
        """Run `args`; CommandFailed unless it ends with 0 or `check` is off."""
        result = _run(self.name, list(args), tuple(args), input, timeout,
                      {**os.environ, **env} if env else None)
        if check and result.code:
            raise CommandFailed(self.name, result)
        return result

    def listen(self, args: Sequence[str], *, input: str = "") -> Heard:
        """Begin `args` and return its lines as they come."""
        return Heard(args, input)


class Ssh:
    """Commands on one machine over SSH, through one shared connection.

    A machine that lost its power is noticed within about four seconds
    (ServerAliveInterval x ServerAliveCountMax; ssh_config(5)).
    """

    def __init__(self, machine: Machine, *, key: Path, known_hosts: Path):
        self.name = machine.name
        where = f"{machine.user}@{machine.address}"
        # ssh's own %C has 40 characters; a socket's whole path may have about 90 (unix(7))
        socket = hashlib.sha256(f"{where}:{machine.ssh_port}".encode()).hexdigest()[:8]
        self._base = [
            "ssh", "-i", str(key), "-p", str(machine.ssh_port),
            "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={known_hosts}",
            "-o", "StrictHostKeyChecking=accept-new",
            "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=4",
            "-o", "ServerAliveInterval=2",
            "-o", "ServerAliveCountMax=2",
            "-o", "ControlMaster=auto",
            "-o", f"ControlPath={known_hosts.parent}/{socket}",
            "-o", "ControlPersist=120",
            where, "--",
        ]
        self._sudo = [] if machine.user == "root" else ["sudo", "-n"]

    def run(self, args: Sequence[str], *, input: bytes | str | None = None,
            check: bool = True, timeout: float = 60) -> Result:
        """Run `args` on the machine; Unreachable when SSH itself fails."""
        words = self._sudo + list(args)
        result = _run(self.name, [*self._base, shlex.join(words)], tuple(args), input, timeout)
        if result.code == 255:  # ssh's own failure, ssh(1) EXIT STATUS
            raise Unreachable(self.name, result)
        if check and result.code:
            raise CommandFailed(self.name, result)
        return result

    def listen(self, args: Sequence[str], *, input: str = "") -> Heard:
        """Begin `args` on the machine and return its lines as they come.

        They end when the machine does not answer any more; close what was returned then, too.
        """
        return Heard([*self._base, shlex.join(self._sudo + list(args))], input)


class Recorded:
    """Saved answers in place of a machine; keeps the commands that were sent.

    Parameters
    ----------
    answers : maps the first words of a command to its output (or to a Result).
        The longest match counts; a command that matches none is an error.
    """

    def __init__(self, answers: dict[tuple[str, ...], str | Result], name: str = "pi1"):
        self.name, self.answers, self.commands = name, answers, []
        self.inputs: list[bytes | str | None] = []

    def run(self, args: Sequence[str], *, input: bytes | str | None = None,
            check: bool = True, timeout: float = 60) -> Result:
        words = tuple(args)
        self.commands.append(words)
        self.inputs.append(input)
        for length in range(len(words), 0, -1):
            if words[:length] in self.answers:
                answer = self.answers[words[:length]]
                result = answer if isinstance(answer, Result) else Result(words, 0, answer, "")
                if check and result.code:
                    raise CommandFailed(self.name, result)
                return result
        raise AssertionError(f"no recorded answer for {shlex.join(words)}")

    def listen(self, args: Sequence[str], *, input: str = "") -> Heard:
        """Say what was saved, and then nothing more until `close`, like a program that watches."""
        said = self.run(args, input=input).out
        return Heard(["sh", "-c", 'printf %s "$1"; exec cat', "sh", said], "")


def archive(files: dict[str, bytes]) -> bytes:
    """Return a tar archive of `files` (name: content), to be sent to a machine."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _run(where: str, argv: list[str], shown: tuple[str, ...], input: bytes | str | None,
         timeout: float, env: dict[str, str] | None = None) -> Result:
    data = input.encode() if isinstance(input, str) else input
    try:
        done = subprocess.run(argv, input=data, capture_output=True, timeout=timeout, env=env,
                              stdin=subprocess.DEVNULL if data is None else None)
    except FileNotFoundError:
        raise CommandFailed(where, Result(shown, 127, "", f"{argv[0]} is not installed; "
                            "gislab doctor says what is needed")) from None
    except subprocess.TimeoutExpired:
        raise Unreachable(where, Result(shown, 124, "", f"no end after {timeout:g} s")) from None
    return Result(shown, done.returncode, done.stdout.decode(errors="replace"),
                  done.stderr.decode(errors="replace"))

"""Watch the parts of the lab while something is broken: who holds what, as each Pi sees it.

One SSH session stays open to each Pi for the whole time, with one small program in it
(data/watch.pl) that says a line whenever something changes:

- `vip`: whether this Pi has the address, looked at ten times a second in the kernel's own table;
- `primary`: who holds Patroni's lock, told by this Pi's Consul in the moment of the change;
- `server`: which servers this Pi's HAProxy counts as up, five times a second;
- `consul_leader` twice, `swarm_leader` once a second; `task`: what containers do, as it happens.

It costs a Pi about one hundredth of a processor, and starts no process after its first. Where a
Pi is dark or cut off, its lines are missing until it can be reached again: `watch` says from when
to when it was seen.

A Pi stamps each line by its own clock, which is never set (`/proc/uptime`, proc(5)), in steps of
10 ms. The line that travelled fastest says how far that clock is from the run's: NTP's clock
filter with the smallest delay (RFC 5905, section 10), in one direction.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from . import consul, nodes, stack
from .settings import PROJECT, Lab
from .shell import CommandFailed

PROGRAM = PROJECT / "gislab" / "data" / "watch.pl"
AGAIN = 1.0  # seconds until a Pi that is not heard any more is tried again
MUTE = 5.0  # the same, if it said nothing at all


class Line(NamedTuple):
    """One line as it came: from which Pi, in which session, when on this machine's clock."""

    node: str
    session: int
    arrived: float
    text: str


class Watch:
    """The parts of a lab, watched from threads of their own; use it in `with`.

    Nothing that goes wrong here stops a measurement: what could not be seen is missing.
    """

    def __init__(self, lab: Lab):
        self._lab = lab
        self._lines: list[Line] = []  # appended to by threads, copied by others
        self._open: dict[str, object] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Watch:
        self._threads = [threading.Thread(target=self._follow, daemon=True,
                                          args=(node, program(facts(self._lab, node.address))),
                                          name=f"watch {node.name}")
                         for node in nodes.all(self._lab)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for heard in list(self._open.values()):
            heard.close()
        for thread in self._threads:
            thread.join(10)

    def seen(self, began: float) -> list[tuple]:
        """Return the lines of run.Run.system so far; `began`: when the run did (monotonic)."""
        return placed(self._lines.copy(), began,
                      {m.address: m.name for m in self._lab.machines})

    def _follow(self, node: nodes.Node, text: str) -> None:
        session = 0
        while not self._stop.is_set():
            session, count = session + 1, 0
            try:
                # the program by its input: a command line could be read by everybody there
                heard = node.remote.listen(["perl", "-e", _LOAD.format(len(text.encode()))],
                                           input=text)
            except (CommandFailed, OSError):
                self._stop.wait(MUTE)
                continue
            self._open[node.name] = heard
            try:
                if not self._stop.is_set():  # else __exit__ may have closed all others already
                    for line in heard:
                        self._lines.append(Line(node.name, session, time.monotonic(), line))
                        count += 1
            finally:
                heard.close()
            self._stop.wait(AGAIN if count else MUTE)


def facts(lab: Lab, address: str) -> dict[str, object]:
    """Return what the program needs to know on the Pi with this address; secrets among it."""
    login = base64.b64encode(f"lab:{lab.secret('haproxy_password')}".encode()).decode()
    own = {"label": [f"com.docker.stack.namespace={stack.NAME}"]}
    actions = {"type": ["container"], "event": ["start", "die", "oom", "pause", "unpause"], **own}
    return {
        "vip": lab.vip, "address": address, "stats": lab.ports.stats, "login": login,
        "consul": consul.PORT, "token": lab.secret("consul_token"),
        "lock": f"/v1/kv/service/{lab.name}/leader", "docker": "/var/run/docker.sock",
        "nodes": "/nodes?filters=" + _filters({"role": ["manager"]}),
        "running": "/containers/json?filters=" + _filters(own),
        "events": "/events?filters=" + _filters(actions)}


def program(facts: dict[str, object]) -> str:
    """Return the text that perl is sent: the facts, and data/watch.pl."""
    known = ", ".join(f"{key} => {_quoted(value)}" for key, value in facts.items())
    return f"our %S = ({known});\n{PROGRAM.read_text()}"


def placed(lines: Iterable[Line], began: float, names: dict[str, str]) -> list[tuple]:
    """Put lines of several Pis on the run's clock: (t, node, kind, what, state), in order. Pure.

    What was so before the run began is told once, at 0.

    Parameters
    ----------
    began : float, seconds; when the run began, on the clock of `Line.arrived`.
    names : a Pi's address -> its name.
    """
    sessions: dict[tuple[str, int], list[tuple[float, float, list[str]]]] = {}
    for line in lines:
        stamp, *words = line.text.split("\t")
        try:
            entry = (float(stamp), line.arrived, words)
        except ValueError:
            continue  # cut off with its session
        if len(words) in (0, 3):
            sessions.setdefault((line.node, line.session), []).append(entry)
    found, before = [], {}
    for (node, _), heard in sessions.items():
        ahead = min(arrived - stamp for stamp, arrived, _ in heard) - began
        times = [stamp + ahead for stamp, *_ in heard]
        states = [(t, node, words[0], words[1], names.get(words[2], words[2]))
                  for t, (_, _, words) in zip(times, heard, strict=True) if words]
        for t, *key in [(times[0], node, "watch", "", "begins"), *states,
                        (times[-1], node, "watch", "", "ends")]:
            if t < 0:
                before[tuple(key[:3])] = key[3]
            else:
                found.append((t, *key))
    return [(0.0, *key, state) for key, state in before.items()] + sorted(
        found, key=lambda event: event[0])


# perl reads exactly the program from its input and goes on; the rest of the input is its leash
_LOAD = "read STDIN, my $program, {}; eval $program; die $@ if $@"


def _filters(filters: dict) -> str:
    return quote(json.dumps(filters, separators=(",", ":")), safe="")


def _quoted(value: object) -> str:
    """Write a value as perl does, in single quotes (perlop, "Quote and Quote-like Operators")."""
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"

"""Who held what, from when to when: Run.system as spans of time. Pure.

Each Pi speaks of its own address. Of a lock or a leader all Pis speak, and one that is cut off may
know nothing, or yesterday's news: what most of them say counts; of two opinions with as many
voices the later one. A Pi that is not heard has no voice.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .run import Run

ROWS = {"vip": "VIP", "primary": "primary", "maps": "map servers up",
        "consul_leader": "Consul's leader", "swarm_leader": "Swarm's leader"}
BACKEND = "maps/"  # HAProxy's servers that are map servers
PRIMARIES = "primary/"  # and those of the database; UP: Patroni says that it is the primary
# seconds: an HAProxy that has just begun counts every server as up, until its checks have failed
UNCHECKED = 2.0


class Span(NamedTuple):
    """From `begin` to `end`, seconds on the run's clock, it was `who`."""

    begin: float
    end: float
    who: str


def spans(run: Run) -> dict[str, list[Span]]:
    """Return the spans of each of ROWS that anything was said about, in the order of time.

    Those of the VIP may overlap: two Pis that hold it at a time are a fault worth seeing.
    """
    if run.system.empty:
        return {}
    last = max([0.0, *run.samples["sent"], *run.system["t"]])
    found = {"vip": _addresses(run, last)}
    for row in ("primary", "consul_leader", "swarm_leader"):
        found[row] = _joined(_agreed(run, row), last)
    found["maps"] = _joined(_counted(run, found["vip"]), last)
    return {row: found[row] for row in ROWS if found[row]}


def moves(run: Run, row: str) -> int | None:
    """Return how often `vip` or `primary` went to another one; None if nobody was seen with it.

    One that has lost it, and has it again before anybody else, has not been replaced. One that
    comes while another has it counts each time, also if that other one has it still when it goes.
    """
    held = spans(run).get(row)
    return None if held is None else sum(
        former.who != later.who or any(one.who != later.who and one.begin <= later.begin < one.end
                                       for one in held)
        for former, later in itertools.pairwise(held))


def rivals(run: Run) -> list[Span] | None:
    """Return the spans in which more than one member was counted as primary; None: nobody saw.

    Every HAProxy asks each member's Patroni whether it is the primary, and all of them count: one
    on a Pi that is cut off may see a former primary that the others do not. A member that has
    died is counted until its next checks have failed, so a span is no proof of two that *write*;
    but while two write, each in reach of some Pi, there is a span. `who` names the members.
    """
    lines = _lines(run, ("server", "haproxy", "watch"))
    if not any(what.startswith(PRIMARIES) for *_, what, _ in lines):
        return None
    last = max([0.0, *run.samples["sent"], *run.system["t"]])
    return _joined(_several(lines), last)


def _several(lines: list[tuple]) -> Iterator[tuple[float, str]]:
    """Yield (t, all members that any HAProxy counts as primary), or nobody if that is but one."""
    up: dict[str, set[str]] = {}
    since: dict[str, float] = {}  # from when on a Pi's voice counts
    news = [(t + UNCHECKED, node, "", "", "") for t, node, *_, state in lines
            if state in ("begins", "answers")]
    for t, node, kind, what, state in sorted([*lines, *news], key=lambda line: line[0]):
        if kind in ("watch", "haproxy"):
            heard = state in ("begins", "answers")
            since[node] = (t + UNCHECKED if t else 0.0) if heard else math.inf
            if state == "begins":  # and tells everything anew
                up.pop(node, None)
        elif what.startswith(PRIMARIES):
            own = up.setdefault(node, set())
            (own.add if state == "UP" else own.discard)(what.removeprefix(PRIMARIES))
        counted = set().union(*(own for pi, own in up.items() if since.get(pi, 0.0) <= t))
        yield t, ", ".join(sorted(counted)) if len(counted) > 1 else ""


def _addresses(run: Run, last: float) -> list[Span]:
    own, since = [], {}
    for t, node, kind, _, state in _lines(run, ("vip", "watch")):
        held = state == "here" if kind == "vip" else node in since and state != "ends"
        if held:
            since.setdefault(node, t)
        elif node in since:
            own.append(Span(since.pop(node), t, node))
    return sorted([*own, *(Span(begin, last, node) for node, begin in since.items())])


def _agreed(run: Run, row: str) -> Iterator[tuple[float, str]]:
    """Yield (t, what most Pis say) whenever anything was said."""
    voices: dict[str, tuple[float, str]] = {}
    for t, node, kind, _, state in _lines(run, (row, "watch")):
        if kind == row:
            voices[node] = (t, state)
        elif state == "ends":
            voices.pop(node, None)
        if voices:
            count = Counter(said for _, said in voices.values())
            newest = {said: when for when, said in sorted(voices.values())}
            yield t, max(count, key=lambda said: (count[said], newest[said]))


def _counted(run: Run, addresses: list[Span]) -> Iterator[tuple[float, str]]:
    """Yield (t, how many map servers are up) as the HAProxy counts them that clients meet."""
    up: dict[str, set[str]] = {}
    moves = [(span.begin, span.who, "vip", "", "") for span in addresses]
    holder = ""
    for t, node, kind, what, state in sorted(
            [*_lines(run, ("server",)), *moves], key=lambda line: line[0]):
        if kind == "vip":
            holder = node
        elif what.startswith(BACKEND):
            (set.add if state == "UP" else set.discard)(up.setdefault(node, set()), what)
        if holder in up:
            yield t, str(len(up[holder]))


def _joined(said: Iterator[tuple[float, str]], last: float) -> list[Span]:
    """Make spans of what was said one after the other; of nobody there is none."""
    found: list[Span] = []
    for t, who in said:
        if found and found[-1].who == who:
            continue
        if found:
            found[-1] = found[-1]._replace(end=t)
        found.append(Span(t, last, who))
    return [span for span in found if span.who and span.end > span.begin]


def _lines(run: Run, kinds: tuple[str, ...]) -> list[tuple]:
    return list(run.system[run.system["kind"].isin(kinds)].itertuples(index=False, name=None))

"""The set-up of 2016 in the place of ours, to be broken beside it: stand it up, take it away.

    with setup2016.standing(lab):
        experiment.measure(lab, "power_cut")      # strikes, and asks, the set-up of 2016

What stands is stack/2016.yml, where each setting names the file and the line of the original. It
runs on the Swarm of a standing lab, whose own stack is removed meanwhile. Its volumes, secrets
and catalog stay, so it comes back as it was; what the set-up of 2016 has written is thrown away.

A journal in the lab's home is locked as long as a program wants the set-up of 2016 to stand. If
that program dies its lock goes with it, and the next command of the lab puts ours back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import httpx
import psycopg

from . import (
    catalog,
    claim,
    cluster,
    history,
    images,
    nodes,
    postgis,
    probe,
    question,
    reads,
    registry,
    stack,
    swarm,
    vip,
)
from .settings import Lab
from .shell import CommandFailed
from .wait import NotYet, rescued, until

NAME = "2016"
FILE = "2016.yml"
MAPS = "mapserver"  # draws its maps, whoever draws ours: nothing in it hangs on that
VOLUME = f"{stack.NAME}_postgis2016"
# There was no way to a database but Pgpool's, and no layer here but `alive`.
LANES = tuple(lane for lane in (*probe.LANES, "features") if lane != "write_primary")
SERVERS = ("postgis1", "postgis2")
LEAVES = (*SERVERS, "mapserver1", "mapserver2", "mapserver3")  # they wait for nobody
DOORS = ("pgpool", "haproxy")  # they keep what they once knew of the leaves
PATIENCE = 60.0  # seconds for all its containers to begin


class SetUpError(RuntimeError):
    """The set-up of 2016 cannot stand here, or now; the text says what to do."""


class InUse(SetUpError):
    """Another program wants the set-up of 2016 to stand."""


@contextmanager
def standing(lab: Lab, say=print) -> Iterator[None]:
    """Have the set-up of 2016 stand for the length of the block, and ours again after it.

    Raises
    ------
    InUse : another program has it standing at this moment.
    """
    _bring_image(lab, say)
    with _claimed(lab) as journal:
        journal.write(json.dumps({"setup": NAME}))
        journal.flush()
        try:
            up(lab, say=say)
            yield
        finally:
            restore(lab, say=say)


def stands(lab: Lab) -> bool:
    """Tell whether the set-up of 2016 stands, or a killed program has left it behind."""
    return _journal(lab).exists()


def up(lab: Lab, say=print) -> None:
    """Take our stack away, deploy the set-up of 2016 with an empty database, wait for it."""
    swarm.ready(lab, say=say, timeout=120)
    _clear(lab, say)
    stack.deploy(replace(lab, map_server=MAPS), file=FILE,
                 more={"2016-gis.map": catalog.mapfile(lab).encode()}, say=say)
    ready(lab, say=say)
    say(f"lab {lab.name}: the set-up of 2016 answers at {lab.vip}")


def restore(lab: Lab, say=print) -> None:
    """Put our stack back, from whatever state the lab is in; safe to repeat."""
    lights_on(lab, say=say)
    _clear(lab, say)
    cluster.serve(lab, say=say)
    _journal(lab).unlink(missing_ok=True)
    say(f"lab {lab.name}: as it was before the set-up of 2016")


def heal(lab: Lab, say=print) -> bool:
    """Put our stack back if a killed program left the set-up of 2016 behind; tell whether it did.

    Raises
    ------
    InUse : another program wants it to stand; nothing is touched.
    """
    if not stands(lab) or claim.mine(_journal(lab)):
        return False
    with _claimed(lab):
        say("the set-up of 2016 was left behind; putting ours back")
        restore(lab, say=say)
    return True


def ready(lab: Lab, say=print, timeout: float = 240) -> None:
    """Wait until every part of the set-up of 2016 answers; WaitTimeout names the first not to.

    A container that does not begin, as an engine now and then fails to mount its files (seen:
    "device or resource busy"), is started by hand after PATIENCE: Swarm was told to start none
    again. With a shorter `timeout` that is left to the caller.
    """
    rescued(lambda: _containers_run(lab),
            lambda: start_again(lab, say=say or (lambda text: None)),
            what="all containers of 2016", patience=PATIENCE, timeout=timeout, every=1,
            progress=say)
    for what, ask in (("SQL through every Pgpool", _sql_answers),
                      ("maps through every HAProxy", _maps_answer),
                      # 3 adverts of 5 s and the skew: RFC 3768, 6.1
                      ("the slaves' Keepalived", _two_hold_the_vip)):
        until(lambda ask=ask: ask(lab), what=what, timeout=timeout, every=1, progress=say)


def wanted(lab: Lab) -> dict[str, int]:
    """Return service -> how many containers it has when all is well, in the order of starting."""
    every = len(lab.machines)
    return {"consul": 1, **dict.fromkeys(LEAVES, 1), "pgpool": every, "haproxy": every,
            "keepalived": every}


def lacking(lab: Lab) -> list[str]:
    """Return the services of which a container does not run; as the Pis say, not the Swarm."""
    return [service for service, count in wanted(lab).items()
            if len(stack.containers(lab, service)) < count]


def start_again(lab: Lab, *, everything: bool = False, say=print) -> None:
    """Start what has ended, as a person had to: nothing else did, see stack/2016.yml.

    First what waits for nobody; then Pgpool and HAProxy, which hold on to the addresses that they
    once looked up, and Pgpool to its word that a server is dead. Where a Pgpool is gone with its
    Pi all of them are started again: nobody asked for a timeout, so a map server may wait for an
    answer for good, and the servers keep that Pgpool's sessions, until they have no more to give.

    Parameters
    ----------
    everything : start all of them, for the same reason. When the VIP leaves a Pi that lives, its
        Pgpool keeps the sessions of clients that are gone, and none of its 32 places may be left.
    """
    swarm.ready(lab, timeout=120)
    ended = lacking(lab)
    first = [service for service in LEAVES
             if everything or service in ended or "pgpool" in ended]
    _update(lab, first)
    stale = set(DOORS) if first else {
        door for door, ask in zip(DOORS, (_sql_answers, _maps_answer), strict=True)
        if door not in ended and _fails(ask, lab)}
    rest = [service for service in wanted(lab) if service not in LEAVES
            and service in stale.union(ended)]
    _update(lab, rest)
    if ended or rest:
        say(f"started by hand: {', '.join([*first, *rest])}")


def lights_on(lab: Lab, say=print) -> None:
    """Give every Pi its power back that does not answer."""
    alive = {node.name for node in nodes.alive(lab)}
    for machine in lab.machines:
        if machine.name not in alive:
            nodes.power_on(lab, machine.name)
            say(f"{machine.name}: has its power back")


def first_row(lab: Lab) -> int:
    """Have the table of writes on both servers; return a number that no row has reached.

    Each is told by itself: what a server missed while it was down, nobody gives it later.
    """
    table = postgis.each(lab, f"set role gis; {reads.TABLE}; "
                              "select coalesce(max(id), 0) from lab.writes")
    if sorted(table["member"]) != sorted(SERVERS) or not table["answer"].str.isdigit().all():
        raise SetUpError("lab.writes cannot be had on both servers: "
                         + "; ".join(table["member"] + ": " + table["answer"].str[-200:]))
    return (int(table["answer"].astype(int).max()) // probe.HALF + 1) * probe.HALF


def final_reads(lab: Lab, first: int, end: int, *, timeout: float = 60) -> list[tuple]:
    """Read from both servers which rows from `first` up to `end` each holds, and how often.

    Only once no write is under way on either. Returns the lines of run.Run.rows.
    """
    query = ("select 'open', count(*) from pg_locks where relation = 'lab.writes'::regclass and "
             "mode = 'RowExclusiveLock' and granted; select id, count(*) from lab.writes "
             f"where id >= {first} and id < {end} group by id order by id")

    def ask() -> list[tuple]:
        try:
            table = postgis.each(lab, query)
        except CommandFailed as error:
            raise NotYet(str(error)[-200:]) from None
        found = {}
        for server, answer in zip(table["member"], table["answer"], strict=True):
            begun, *rows = answer.splitlines() or [""]
            if begun != "open|0":
                raise NotYet(f"{server}: {begun.replace('open|', 'writes under way: ')[-200:]}")
            found[f"server {server}"] = {int(row): int(times) for row, times in
                                         (line.split("|") for line in rows)}
        if len(found) < len(SERVERS):
            raise NotYet(f"{len(found)} of {len(SERVERS)} servers answer")
        return history.reads(found)
    return until(ask, what="both servers to tell their rows", timeout=timeout, every=1)


def _bring_image(lab: Lab, say) -> None:
    """Have every Pi hold the image of its map server, where ours is another one's."""
    if lab.serves != MAPS:
        for bring in (images.build, registry.push, registry.pull):
            bring(replace(lab, map_server=MAPS), say=say)


def _containers_run(lab: Lab) -> None:
    missing = lacking(lab)
    if missing:
        raise NotYet(", ".join(missing))


def _sql_answers(lab: Lab) -> None:
    for machine in lab.machines:
        try:
            with postgis.connect(lab, "gis", host=machine.address, autocommit=True) as connection:
                connection.execute("SELECT id FROM lab.alive").fetchone()
                pool = connection.execute("SHOW pool_nodes").fetchall()
        except psycopg.Error as error:
            raise NotYet(f"{machine.name}: {str(error).strip().splitlines()[-1]}") from None
        dead = [row[1] for row in pool if row[3] not in ("up", "waiting")]
        if dead:
            raise NotYet(f"{machine.name}: its Pgpool has given up {', '.join(dead)}")


def _maps_answer(lab: Lab) -> None:
    # each of them, since the VIP may move to any; and in turn each of three map servers twice
    for address in (lab.vip, *(machine.address for machine in lab.machines)) * 6:
        url = question.map_url(lab.maps_url.replace(lab.vip, address))
        try:
            question.judge_png(httpx.get(url, timeout=8, trust_env=False))
        except (httpx.HTTPError, question.Failed) as error:
            raise NotYet(f"{address}: {str(error)[-200:]}") from None


def _two_hold_the_vip(lab: Lab) -> None:
    """Two routers, two holders: the master's has the number 100, the slaves' 101."""
    holding = vip.holders(lab)
    if len(holding) != 2:
        raise NotYet(f"the VIP is held by {', '.join(holding) or 'nobody'}")


def _fails(ask, lab: Lab) -> bool:
    try:
        ask(lab)
    except NotYet:
        return True
    return False


def _update(lab: Lab, services: list[str]) -> None:
    """Replace the containers of some services, all at once; what does not start, `ready` tells."""
    stack.replace(lab, services, "--update-parallelism", "0", "--update-monitor", "1s",
                  timeout=120, every=0.5)


def _clear(lab: Lab, say) -> None:
    """Remove whichever stack stands, its network, and what the set-up of 2016 has written."""
    stack.remove(lab, say=say)
    label = f"label=com.docker.stack.namespace={stack.NAME}"

    def gone() -> None:
        for node in nodes.all(lab):
            try:
                # Swarm removes a network late, and a new stack would find it, and lose it
                if node.docker("network", "ls", "-q", "--filter", label):
                    raise NotYet(f"{node.name} still has the network")
                node.docker("volume", "rm", "--force", VOLUME)
            except CommandFailed as error:
                raise NotYet(f"{node.name}: {error.result.err.strip()[-150:]}") from None
    until(gone, what="the stack's network to be gone", timeout=90, every=1, progress=say)


def _claimed(lab: Lab) -> AbstractContextManager[TextIO]:
    """Lock the journal, made if need be; the lock ends with the block, or with this program."""
    return claim.held(_journal(lab), InUse(
        "another program has the set-up of 2016 standing on this lab; wait for its end, or stop "
        "it: then ours is put back"))


def _journal(lab: Lab) -> Path:
    return lab.home / "setup.json"

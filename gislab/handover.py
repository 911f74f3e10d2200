"""Planned work on the database: hand the primary's role over, restart all members one by one."""

from __future__ import annotations

import time

import pandas as pd

from . import nodes, stack
from .members import containers, members, patronictl, primary, replicating, safe
from .settings import Lab
from .wait import NotYet, WaitTimeout, until


def switchover(lab: Lab, to: str | None = None, say=print) -> str:
    """Hand the primary's role over, as planned work does, and return who has it now.

    Parameters
    ----------
    to : a member, e.g. `postgis2`. By default whichever replica is the first: the primary is
        stopped when its replicas have all that it wrote, and they fail over at once (see
        images/postgis/handover.sh). A certain member costs some seconds more: Patroni then lets
        the others wait for it.
    """
    table = members(lab)
    former = primary(lab)
    if not (safe(table) & (table["state"] == "streaming")).any():
        raise NotYet("no replica has every acknowledged write at this moment")
    if to is not None and to not in set(table["member"]):
        raise ValueError(f"no member {to!r}; there are " + ", ".join(table["member"]))
    if to == former:
        say(f"{to}: is primary already")
        return to
    def changed() -> str:  # both ways come back before the new primary takes writes
        now = primary(lab)
        if now == former or to not in (None, now):
            raise NotYet(f"{now} is primary")
        return now
    if to is None:
        _hand_over(lab, former, changed)
    else:
        patronictl(lab, "switchover", "--leader", former, "--candidate", to, "--force",
                   through=to, timeout=90)
    now = until(changed, what=f"{to or 'another member'} to be primary", timeout=90)
    until(lambda: replicating(members(lab), len(table) - 1), what="its replicas to stream",
          timeout=90)
    say(f"{now}: is primary, {former} is its replica")
    return now


def rolling_restart(lab: Lab, image: str | None = None, say=print) -> pd.DataFrame:
    """Restart every member, one at a time: the replicas first, then who was primary.

    At every moment two members stream, so that writes go on; only the one switchover in
    between is felt. A second call restarts them all again.

    Parameters
    ----------
    image : another image to run from now on, under the name that the Pis pull it by.

    Returns member, node, role (before) and seconds until it streamed again.
    """
    table = members(lab)
    former = primary(lab)
    replicas = [name for name in table["member"] if name != former]
    rows = []
    for member in [*replicas, former]:
        if member == former:
            switchover(lab, say=say)
        start = time.monotonic()
        _restart(lab, member, image)
        until(lambda: replicating(members(lab), len(replicas)),
              what=f"{member} to stream again", timeout=300, every=1)
        took = time.monotonic() - start
        say(f"{member}: restarted, streams again after {took:.0f} s")
        row = table[table["member"] == member].iloc[0]
        rows.append((member, row["node"], row["role"], round(took, 1)))
    return pd.DataFrame(rows, columns=["member", "node", "role", "seconds"])


def roll_out(lab: Lab, say=print) -> None:
    """Have each member run as stack/gis.yml says now, one at a time; nothing where all do.

    To be called before the stack is deployed: each member is a service of its own, and Swarm
    would replace all three in the same moment.
    """
    found = containers(lab)
    if not found:
        return
    try:
        until(lambda: replicating(members(lab), len(found) - 1), what="the database to be whole",
              timeout=60, every=1)
    except WaitTimeout as error:  # there is nothing that could be kept from an outage
        say(f"{error}; members that are to be changed are replaced all at once")
        return
    former = primary(lab)
    replicas = [name for name in found if name != former]
    for member in [*replicas, former]:
        if member == former:
            # all share one definition; a replica that was changed in an earlier call tells, too
            if all(stack.alike(lab, former, name) for name in replicas):
                return
            switchover(lab, say=say)
        before, start = containers(lab)[member][1], time.monotonic()
        if not stack.renew(lab, member, say=say):
            continue
        _replaced(lab, member, before)
        until(lambda: replicating(members(lab), len(replicas)),
              what=f"{member} to stream again", timeout=300, every=1)
        say(f"{member}: renewed, streams again after {time.monotonic() - start:.0f} s")


def _hand_over(lab: Lab, former: str, changed) -> None:
    """Stop the primary so that another one takes over; again, if it came back as primary.

    Before it gives up its role, its Patroni asks the replicas whether they would take it, once.
    One that is too busy to answer at that moment counts as unable, and the former primary starts
    again instead.
    """
    for last in (False, False, True):
        node, container = containers(lab)[former]
        node.docker("exec", container, "handover.sh", timeout=90)
        try:
            until(changed, what="another member to be primary", timeout=30)
            return
        except WaitTimeout:
            if last:
                raise


def _restart(lab: Lab, member: str, image: str | None) -> None:
    """Have Swarm replace a member's container, and wait until there is another one."""
    before = containers(lab)[member][1]
    how = ["--image", image, "--no-resolve-image", "--with-registry-auth"] if image else []
    nodes.manager(lab).docker("service", "update", "--force", "--detach", *how,
                              f"{stack.NAME}_{member}", timeout=90)
    _replaced(lab, member, before)


def _replaced(lab: Lab, member: str, before: str) -> None:
    def ask() -> None:
        if containers(lab).get(member, (None, before))[1] == before:
            raise NotYet(f"Swarm has not replaced {member} yet")
    until(ask, what=f"a new container of {member}", timeout=180)

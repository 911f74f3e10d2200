"""The whole lab as one thing: up, ready, status, down."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import pandas as pd
import psycopg
import requests

from . import (
    backup,
    catalog,
    clearance,
    consul,
    durability,
    handover,
    images,
    members,
    nodes,
    ows,
    postgis,
    registry,
    scram,
    stack,
    swarm,
    vip,
    virtual,
    wars,
)
from .database import first_line
from .settings import Lab
from .shell import CommandFailed
from .wait import NotYet, patiently, until


@dataclass(frozen=True)
class Status:
    """What stands where at one moment; prints as one page."""

    lab: Lab
    nodes: pd.DataFrame  # node, address, state, manager, vip, consul, services
    database: pd.DataFrame  # member, node, role, state, lag
    maps: pd.DataFrame  # server, node, answers, catalog

    @property
    def safety(self) -> str:
        """Where an acknowledged write is now, see durability.told."""
        if self.database.empty:
            return f"durability {self.lab.durability}: no member of the database answers"
        return durability.told(self.lab, self.database)

    def __str__(self) -> str:
        title = (f"lab {self.lab.name} ({self.lab.kind}), VIP {self.lab.vip}, "
                 f"maps by {self.lab.serves}\n{self.safety}")
        parts = [title] + [table.to_string(index=False)
                           for table in (self.nodes, self.database, self.maps)]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        return "".join(f"<h4>{name}</h4>" + table.to_html(index=False, border=0)
                       for name, table in (("Pis", self.nodes),
                                           (f"Database ({self.safety})", self.database),
                                           (f"Maps ({self.lab.serves})", self.maps)))


def up(lab: Lab, say=print) -> None:
    """Bring the whole lab up, from whatever state it is in; a second call changes nothing."""
    start = time.monotonic()
    images.engine.ensure(say=say)
    wars.decide(lab, say=say)
    images.build(lab, say=say)
    nodes.up(lab, say=say)
    registry.up(lab, say=say)
    registry.push(lab, say=say)
    swarm.init(lab, say=say)
    swarm.join(lab, say=say)
    swarm.label(lab, say=say)
    registry.pull(lab, say=say)
    changed = serve(lab, say=say)
    say(f"lab {lab.name}: everything answers at {lab.vip} "
        f"({'after' if changed else 'nothing was changed;'} {time.monotonic() - start:.0f} s)")


def serve(lab: Lab, say=print) -> bool:
    """Deploy the stack on a Swarm, until everything answers; return whether anything changed."""
    if stack.outdated(lab):
        # A GeoServer needs it before it comes, and one that goes until it has gone; where no
        # database answers, it is done below.
        if lab.serves == "geoserver":
            with contextlib.suppress(NotYet):
                scram.apply(lab, say=say)
        handover.roll_out(lab, say=say)
    changed = stack.deploy(lab, say=say)
    catalog.allow(lab, say=say, timeout=120)
    ready(lab, say=say)
    durability.apply(lab, say=say)
    until(lambda: scram.apply(lab, say=say), what="the roles of the database", timeout=30)
    return changed


def ready(lab: Lab, say=print, timeout: float = 300) -> None:
    """Wait until every part answers; WaitTimeout names the first that does not."""
    end = time.monotonic() + timeout
    swarm.ready(lab, say=say, timeout=timeout)
    for what, ask in (("all tasks running", _tasks_run),
                      ("Consul", _consul_whole),
                      ("the database", _database_whole),
                      ("the VIP", _vip_held),
                      ("SQL at the VIP", _sql_answers),
                      ("maps at the VIP", _maps_answer),
                      ("the catalog on every map server", _catalog_held),
                      ("the statistics page", _statistics_answer)):
        until(lambda ask=ask: ask(lab), what=what, timeout=max(5, end - time.monotonic()),
              every=1, progress=say)


def status(lab: Lab) -> Status:
    """Look at the whole lab once; parts that do not answer are shown as such."""
    table = swarm.status(lab)
    holder = _or(lambda: vip.holder(lab), None)
    table["vip"] = ["holds it" if name == holder else "" for name in table.node]
    peers = _or(lambda: consul_peers(lab), {})
    table["consul"] = [peers.get(name, "absent") for name in table.node]
    tasks = stack.tasks(lab)
    running = tasks[tasks.state == "Running"]
    table["runs"] = [", ".join(running[running.node == name].service) for name in table.node]
    return Status(lab, table.drop(columns=["availability", "engine"]),
                  _or(lambda: postgis.members(lab), pd.DataFrame()),
                  _or(lambda: map_servers(lab), pd.DataFrame()))


def down(lab: Lab, say=print) -> None:
    """Take the lab off this machine and off the Pis, and prove that nothing is left.

    What was noted of it as it stood is forgotten. Its keys and secrets stay in its home: with
    them it comes up again as the same lab.

    Raises
    ------
    NodeError : a real Pi did not answer, or still holds something of the lab; says what.
    """
    images.engine.ensure(say=say)
    left = clearance.clear(lab, say=say) if lab.kind == "pi" else []
    virtual.down(lab, say=say)
    for name in ("known_hosts", "map_server", "fault.json", "fault.lock", "restore.json",
                 "setup.json"):
        (lab.home / name).unlink(missing_ok=True)
    if left:
        raise nodes.NodeError(f"not removed: {'; '.join(left)}. See to it, and run: gislab down "
                              "once more")


def consul_peers(lab: Lab) -> dict[str, str]:
    """Say of each Pi whether its Consul server is `leader`, `server` or has `no vote`."""
    with consul.of(lab) as store:
        found = store.ask("GET", "operator/raft/configuration").json()["Servers"]
    return {one["Node"]: "leader" if one["Leader"] else "server" if one["Voter"] else "no vote"
            for one in found}


def map_servers(lab: Lab) -> pd.DataFrame:
    """Ask each map server itself: where it is, whether it is healthy, which catalog it has."""
    script = ("curl -s -o /dev/null -w '%{http_code} ' http://localhost:8080/health; "
              "curl -sf http://localhost:8080/catalog")

    def ask(pair: tuple[nodes.Node, str]) -> dict[str, str]:
        node, container = pair
        done = node.run(["docker", "exec", container, "sh", "-c", script], check=False)
        code, _, version = done.out.strip().partition(" ")
        return {"map server": f"{lab.serves} {container[:8]}", "node": node.name,
                "answers": "yes" if code == "200" else f"no ({code or done.err.strip()})",
                "catalog": version or "-"}
    return pd.DataFrame(nodes.each(lab, ask, stack.containers(lab, "mapserver")),
                        columns=["map server", "node", "answers", "catalog"])


def _tasks_run(lab: Lab) -> None:
    _patiently(lambda: stack.settled(lab))


def _consul_whole(lab: Lab) -> None:
    peers = _patiently(lambda: consul_peers(lab))
    voters = [role for role in peers.values() if role in ("leader", "server")]
    if len(voters) < len(lab.machines) or "leader" not in voters:
        raise NotYet(f"{len(voters)} of {len(lab.machines)} servers vote, "
                     + ("one leads" if "leader" in voters else "no leader"))


def _database_whole(lab: Lab) -> None:
    left = backup.unfinished(lab)
    if left:
        raise backup.BackupError(f"a restore to {left['to']} has not come to its end; it goes on "
                                 "with: gislab restore")
    members.replicating(_patiently(lambda: postgis.members(lab)))


def _vip_held(lab: Lab) -> None:
    if _patiently(lambda: vip.holder(lab)) is None:
        raise NotYet("no Pi holds it")


def _sql_answers(lab: Lab) -> None:
    for port in (lab.ports.sql, lab.ports.primary, lab.ports.replicas):
        try:
            with postgis.connect(lab, "gis", port=port) as connection:
                connection.execute("SELECT id FROM lab.alive").fetchone()
                if port == lab.ports.primary and connection.execute(
                        "SHOW transaction_read_only").fetchone() == ("on",):
                    raise NotYet(f"port {port}: writes are refused, see images/postgis/guard.sh")
        except psycopg.Error as error:
            raise NotYet(f"port {port}: {first_line(error)}") from None


def _maps_answer(lab: Lab) -> None:
    try:
        found = len(ows.get_features(lab, "alive"))
    except (requests.RequestException, OSError, ValueError, RuntimeError) as error:
        raise NotYet(str(error)[-200:]) from None
    if found != 1:
        raise NotYet("the layer `alive` is empty")
    table = _patiently(lambda: map_servers(lab))
    well = int((table.answers == "yes").sum())
    if well < min(3, len(table)) or well == 0:
        raise NotYet(f"{well} of {max(3, len(table))} map servers healthy")


def _catalog_held(lab: Lab) -> None:
    running = _patiently(lambda: stack.running(lab, "mapserver"))
    try:
        table = catalog.status(lab, running)
    except consul.ConsulError as error:
        raise NotYet(str(error)) from None
    late = table[table["state"] != "current"]
    if len(late) or table.empty:
        raise NotYet(", ".join(late["node"] + " " + late["state"]) or "none reports")


def _statistics_answer(lab: Lab) -> None:
    url = f"http://{lab.vip}:{lab.ports.stats}/"
    try:
        code = requests.get(url, auth=("lab", lab.secret("haproxy_password")),
                            timeout=5).status_code
    except requests.RequestException as error:
        raise NotYet(str(error)[-120:]) from None
    if code != 200:
        raise NotYet(f"status {code}")


def _patiently(ask):
    """Call `ask`; a Pi, or Consul, that fails to answer at this moment means: not yet."""
    return patiently(ask, *swarm.SILENT, consul.ConsulError, TimeoutError, LookupError)


def _or(ask, otherwise):
    """Return what `ask` says, or `otherwise` where that part of the lab is down."""
    try:
        return ask()
    except (CommandFailed, NotYet, TimeoutError, RuntimeError, OSError):
        return otherwise

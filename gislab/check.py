"""What a student's lab should look like after each step: says what is right, or what to do."""

from __future__ import annotations

from collections.abc import Iterable

from . import backup as _backup  # the checks have the names of what they check
from . import catalog as _catalog
from . import census, cluster, holders, outage, postgis, vip
from . import stack as _stack
from . import swarm as _swarm
from .run import Run
from .settings import MEMBERS, Lab
from .wait import NotYet, WaitTimeout, until


class CheckFailed(AssertionError):
    """A step has not led where it should; the text ends with the next command to type."""


def _ok(text: str) -> None:
    print(f"ok: {text}")


def _need(true: bool, wrong: str, then: str) -> None:
    if not true:
        raise CheckFailed(f"{wrong}. Next: {then}")


def images(table) -> None:
    """Check a table of images.build or images.table: each image is there and was proved."""
    _need(len(table) > 0, "no image is built", "gislab images")
    unproved = [row.image for row in table.itertuples() if not getattr(row, "proof", True)]
    _need(not unproved, f"not proved by running: {', '.join(unproved)}", "gislab images")
    for row in table.itertuples():
        _ok(f"{row.image} for {row.platform}: {table.loc[row.Index, 'size MB']:.0f} MB"
            + (f", {row.proof}" if getattr(row, "proof", "") else ""))


def swarm(lab: Lab) -> None:
    """Check that every Pi is a Ready manager of one Swarm."""
    table = _swarm.status(lab)
    bad = table[(table["state"] != "Ready") | ~table["manager"].isin(["Leader", "Reachable"])]
    _need(bad.empty, "not Ready and a manager: " + ", ".join(bad["node"]), "gislab up")
    _need((table["manager"] == "Leader").sum() == 1, "not exactly one leader", "gislab up")
    _ok(f"{len(table)} Pis are Ready, all of them managers, "
        f"{table.loc[table['manager'] == 'Leader', 'node'].iloc[0]} leads")


def stack(lab: Lab) -> None:
    """Check that every service has all its tasks, and that one Pi holds the VIP."""
    services = _stack.services(lab)
    short = []
    for service in services:
        running, _, wanted = service["Replicas"].split()[0].partition("/")
        if running != wanted:
            short.append(f"{service['Name']} {running}/{wanted}")
    _need(not short, "tasks are missing: " + ", ".join(short), "gislab status")
    _ok(f"{len(services)} services run all their tasks")
    holders = vip.holders(lab)
    _need(len(holders) == 1, f"the VIP {lab.vip} is held by {holders or 'nobody'}",
          "gislab status, then gislab up")
    _ok(f"{holders[0]} alone holds the VIP {lab.vip}")
    wanted = ["leader"] + ["server"] * (len(lab.machines) - 1)

    def ask() -> None:
        consul = cluster.consul_peers(lab)
        if sorted(consul.values()) != wanted:
            raise NotYet(f"Consul's servers are {consul}")
    try:  # a server that returns is given its vote only after ten steady seconds
        until(ask, what="Consul", timeout=40, every=2)
    except WaitTimeout as error:
        raise CheckFailed(f"{error}. Next: gislab up") from None
    _ok(f"{len(wanted)} Consul servers, one of them leader")


def database(lab: Lab) -> None:
    """Check one primary, all its replicas streaming, at least one of them synchronous."""
    table = postgis.members(lab)
    primaries = table[table["role"] == "leader"]
    _need(len(primaries) == 1, f"{len(primaries)} primaries", "gislab status")
    _ok(f"{primaries['member'].iloc[0]} is the one primary")
    streaming = table[table["state"] == "streaming"]
    wanted = len(MEMBERS) - 1
    _need(len(streaming) == wanted, f"{len(streaming)} of {wanted} replicas stream",
          "gislab status")
    with postgis.connect(lab, "postgres", port=lab.ports.primary) as connection:
        rows = connection.execute(
            "select application_name, sync_state from pg_stat_replication").fetchall()
    sync = [name for name, state in rows if state in ("sync", "quorum")]
    _need(bool(sync), "no replica is synchronous: an acknowledged write is on one Pi only",
          "gislab status")
    _ok(f"{wanted} replicas stream; a write is acknowledged when one of {', '.join(sorted(sync))} "
        "has it too")


def data(lab: Lab, tables: Iterable[str] = ("countries", "places", "points")) -> None:
    """Check that every table holds rows, and the same ones on every member."""
    for name in tables:
        try:
            table = postgis.verify(lab, name)
        except LookupError as error:
            raise CheckFailed(f"{error}. Next: run notebook 03-replicated-postgis") from None
        _need(table["rows"].min() > 0, f"table {name} is empty",
              "run notebook 03-replicated-postgis")
        bad = table[~table["equal"]]
        _need(bad.empty, f"{name}: {', '.join(bad['member'])} holds other rows than the rest",
              "gislab status")
        _ok(f"{name}: {table['rows'].iloc[0]} rows, the same on {len(table)} members "
            f"(hash {table['hash'].iloc[0]})")


def backups(lab: Lab) -> None:
    """Check that more than one Pi holds a backup, and that the WAL reaches the archive."""
    table = _backup.table(lab)
    _need(table["node"].nunique() > 1, f"{table['node'].nunique()} Pis hold a backup",
          "gislab backup")
    try:
        archived, why = _backup.flush(lab, say=lambda text: None), "no primary answers"
    except WaitTimeout as error:
        archived, why = None, str(error)
    _need(archived, f"the last WAL was not archived: {why}",
          "gislab status: is another Pi there? The primary's words: docker logs, on its Pi")
    _ok(f"{len(table)} backups on {', '.join(sorted(set(table['node'])))}; the WAL is archived")


def maps(lab: Lab) -> None:
    """Check that every map server answers, and with the same catalog."""
    table = cluster.map_servers(lab)
    silent = table[table["answers"] != "yes"]
    _need(len(table) > 0 and silent.empty, f"{len(silent)} of {len(table)} map servers do not "
          "answer", "gislab status")
    catalogs = set(table["catalog"])
    _need(len(catalogs) == 1, f"map servers publish different catalogs: {sorted(catalogs)}",
          "gislab catalog")
    _ok(f"{len(table)} map servers ({lab.serves}) answer, all with catalog {catalogs.pop()}")


def catalog(lab: Lab, version: int | None = None) -> None:
    """Check that every map server holds the current version of the catalog, or this one."""
    table = _catalog.status(lab, _stack.running(lab, "mapserver"))
    late = table[table["state"] != "current"]
    _need(len(table) > 0, "no map server reports a version", "gislab catalog")
    _need(late.empty, "; ".join(late["node"] + " " + late["state"]), "gislab catalog")
    held = int(table["version"].iloc[0])
    _need(version in (None, held), f"version {held} is current, not {version}", "gislab catalog")
    _ok(f"{len(table)} map servers hold version {held} of the catalog, {table['hash'].iloc[0]}")


def no_lost_writes(runs: Run | Iterable[Run]) -> None:
    """Check that every acknowledged write was found afterwards, once, and no other."""
    for run in [runs] if isinstance(runs, Run) else list(runs):
        w = outage.writes(run)
        kept = "keep the folder of the run, and look at it with outage.writes(run)"
        _need(w.acknowledged > 0, f"{run.fault}: no write was acknowledged", "gislab status")
        _need(bool(w.readings), f"{run.fault}: no server's rows were read", "measure it again")
        _need(not w.broken, f"{run.fault}: {'; '.join(w.broken)}", kept)
        _ok(f"{run.fault}: {w.acknowledged} acknowledged writes, 0 lost, 0 doubled on "
            f"{len(w.readings)} {'servers' if len(w.readings) > 1 else 'server'}"
            + (f"; {len(w.happened)} of {len(w.happened) + len(w.vanished)} unanswered ones "
               "did happen" if w.happened or w.vanished else ""))


def recovered(runs: Run | Iterable[Run]) -> None:
    """Check that every lane of every run answered again at its end."""
    for run in [runs] if isinstance(runs, Run) else list(runs):
        lost = [p for p in run.probes if not outage.of(run, p).recovered]
        _need(not lost, f"{run.fault}: {', '.join(lost)} did not recover", "gislab status")
        _ok(f"{run.fault}: every lane answered again")


def no_single_point_of_failure(runs: Run | Iterable[Run]) -> None:
    """Check that after each fault all lanes were back by themselves, and nothing was lost."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    _need(bool(runs), "no run is there", "measure one: gislab experiment power_cut")
    for run in runs:
        _need(census.survived(run), f"{census.name(run)}: {census.verdict(run)}",
              "look at plot.timeline(run)")
    _ok(f"{len(runs)} things died, and each was survived by all others")


def no_false_failover(runs: Run | Iterable[Run]) -> None:
    """Check that while nothing was dead nobody took the VIP or the primary's role over."""
    for run in [runs] if isinstance(runs, Run) else list(runs):
        for row in ("vip", "primary"):
            moved, what = holders.moves(run, row), holders.ROWS[row]
            _need(moved is not None, f"{run.fault}: nobody told who held the {what}",
                  "measure it again")
            _need(not moved, f"{run.fault}: the {what} moved from "
                  + " to ".join(span.who for span in holders.spans(run).get(row, [])),
                  "look at plot.timeline(run)")
        _ok(f"{run.fault}: VIP and primary stayed where they were for "
            f"{run.samples['sent'].max():.0f} s")


def no_failed(run: Run, probe: str = "maps") -> None:
    """Check that a lane had no failed and no unanswered question at all."""
    o = outage.of(run, probe)
    _need(o.asked > 0, f"{run.fault}: {probe} was not asked", "measure it again")
    _need(o.failed + o.unknown == 0, f"{run.fault}: {o.failed + o.unknown} of {o.asked} questions "
          f"to {probe} failed", "look at plot.timeline(run), then at stack/haproxy.cfg")
    _ok(f"{run.fault}: 0 of {o.asked} questions to {probe} failed")

"""Maps under load: a map server killed, one added and removed; and what the way to a map costs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import httpx

from gislab import cluster, experiment, faults, probe, question, run, stack, vip
from gislab.settings import Lab
from gislab.shell import CommandFailed

from . import doors, series

OURS, DIRECT = "ours", "direct"
RATE, BEFORE, AFTER = 20, 10, 16  # maps a second at each door; seconds: 520 maps in a trial
SERVERS = 3
SIZES = (64, 800)  # pixels: as the probes ask for it, and as a person does
PAIRS = 40  # of each size
LAYER = "alive"  # is in every lab


def quiet(text: str) -> None:
    """Say nothing."""


def killed(lab: Lab, base: str, folder: Path, number: int) -> None:
    """Kill one of three map servers once, while maps are asked for at both doors."""
    fault = faults.named(lab, "map_server_killed")

    def do(probes, note, undone) -> None:
        undone.enter_context(experiment.broken(lab, fault, note, say=quiet))
        probes.watch(AFTER)
    _asked(lab, {OURS: lab.maps_url, doors.WITHOUT_RETRIES: base}, do, fault.name,
           series.path(folder, "killed", number))


def scaled(lab: Lab, base: str, folder: Path, number: int) -> None:
    """Add a map server and remove it, while maps are asked for at both doors.

    HAProxy of 2016 is stopped and started after each, with the servers that there are then.
    """
    def do(probes, note, undone) -> None:
        undone.callback(stack.scale, lab, "mapserver", SERVERS, say=quiet)  # whatever happens
        note("strike", "one more, one fewer")
        for count in (SERVERS + 1, SERVERS):
            stack.scale(lab, "mapserver", count, say=quiet)
            doors.stop_and_start(lab, doors.OF_2016, base)
            probes.watch(1)
        note("undone")
        probes.watch(2)
    _asked(lab, {OURS: lab.maps_url, doors.OF_2016: base}, do, "map_server_added_and_removed",
           series.path(folder, "scaled", number))


def way(lab: Lab, folder: Path, number: int) -> None:
    """Ask for maps one by one, at the VIP and at a map server itself, in turn.

    From inside a map server's container, since map servers answer in the stack's own network
    only; on a Pi that does not hold the VIP, if there is one. Each question is a new connection,
    and each map server is asked as often as the others, as HAProxy does.
    """
    cluster.ready(lab, say=None)
    found = stack.containers(lab, "mapserver")
    own = [node.docker("inspect", "--format", "{{(index .NetworkSettings.Networks "
                       f'"{stack.NAME}_gis").IPAddress}}}}', container)
           for node, container in found]
    holder = vip.holder(lab)
    node, container = next((p for p in found if p[0].name != holder), found[0])
    plan = turns(lab.maps_url, [f"http://{address}:8080" for address in own], number)
    said = node.run(["docker", "exec", "-i", container, "curl", "-K", "-"],
                    input=curl_config([url for _, url in plan]), timeout=300)
    samples, at = [], 0.0
    for (lane, _), line in zip(plan, said.out.splitlines(), strict=True):
        code, *kind, took = line.split()
        if (code, kind) != ("200", ["image/png"]):
            raise CommandFailed(node.name, said)
        samples.append((lane, at, float(took), "ok"))
        at += float(took)
    warm = 2 * len(SIZES) * SERVERS
    about = run.about(lab, fault="", title="the way to a map", images=stack.digests(lab),
                      on=node.name)
    run.make(samples[warm:], settings=about).save(series.path(folder, "way", number))


def turns(through: str, servers: list[str], seed: int) -> list[tuple[str, str]]:
    """Return (lane, URL) of each question, pair by pair; who comes first is drawn by `seed`."""
    draw, plan = random.Random(seed), []
    for pair in range(PAIRS + SERVERS):  # the first of each server warm it up
        for size in SIZES:
            both = [(f"{OURS} {size}", sized(through, size)),
                    (f"{DIRECT} {size}", sized(servers[pair % len(servers)], size))]
            draw.shuffle(both)
            plan += both
    return plan


def curl_config(urls: list[str]) -> str:
    """Return what `curl -K -` reads: every URL once, by a new connection, one line told of each.

    See curl's manual, --config and --write-out; time_total is from the start to the last byte.
    """
    return "\n".join(['silent', 'max-time = 20', 'header = "Connection: close"',
                      'write-out = "%{http_code} %{content_type} %{time_total}\\n"',
                      *[f'url = "{url}"\noutput = "/dev/null"' for url in urls], ""])


def sized(base: str, size: int) -> str:
    """Return the address of that map in so many pixels."""
    url = httpx.URL(question.map_url(base, LAYER))
    return str(url.copy_merge_params({"WIDTH": size, "HEIGHT": size}))


def whole(lab: Lab) -> None:
    """Have the lab whole, with three map servers: a bench that was killed may have left four."""
    if len(stack.containers(lab, "mapserver")) != SERVERS:
        stack.scale(lab, "mapserver", SERVERS, say=quiet)
    cluster.ready(lab, say=None)


def _asked(lab: Lab, bases: dict[str, str], do: Callable, name: str, folder: Path) -> None:
    """Ask for maps at each door while `do` disturbs the lab; keep the Run."""
    whole(lab)
    about = run.about(lab, fault=name, title=name.replace("_", " "), rate=RATE, layer=LAYER,
                      images=stack.digests(lab))
    events: list[tuple] = []
    # as probe.vip asks for maps
    lanes = {lane: question.Maps(question.map_url(base, LAYER), judge=question.judge_png,
                                 timeout=probe.PATIENCE, connect=2)
             for lane, base in bases.items()}
    with contextlib.ExitStack() as undone, probe.Probes(lanes, rate=RATE) as probes:
        def note(kind: str, what: str = "") -> None:
            events.append((probes.now(), kind, what, name))
        probes.watch(BEFORE)
        do(probes, note, undone)
    about["lateness"] = probes.lateness()
    run.make(probes.samples(), events, settings=about).save(folder)

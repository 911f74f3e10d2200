"""What more map servers give and take: maps a second, processors, memory; and images' sizes."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from gislab import cluster, images, nodes, probe, question, run, stack
from gislab.run import Run
from gislab.settings import Lab
from gislab.wait import NotYet, until

from . import maps, series

COUNTS = (1, 2, 3)  # map servers
CLIENTS = 2  # for each of them; each asks for the next map when it has one
LOOK = 500  # times a second it is seen who has one
SIZE = maps.SIZES[-1]
WARM = 200  # maps of each server that do not count: one that has just begun compiles as it goes
SECONDS, CALM = 15, 5  # while maps are asked for, and while none is
MEGA = {"B": 1e-6, "KiB": 1.024e-3, "MiB": 1.048576, "GiB": 1073.741824}  # bytes, in MB
ENGINE = "dockerd, containerd, shims"

# of each container what it uses; of each process KiB of its own, KiB of files, name
_MEMORY = ("docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' $(docker ps -q --filter "
           f"label=com.docker.stack.namespace={stack.NAME}) && "
           "{ awk '/^Name:/ {name = $2} /^RssAnon:/ {own = $2} /^RssFile:/ {files = $2} "
           "/^RssShmem:/ {print own + $2, files, name}' /proc/[0-9]*/status 2>/dev/null || :; }")


class GrowthError(RuntimeError):
    """What was to be measured is not there; says what to do."""


@contextmanager
def as_before(lab: Lab) -> Iterator[None]:
    """Have as many map servers afterwards as there are now, whatever happens."""
    cluster.ready(lab, say=None)
    former = len(stack.containers(lab, "mapserver"))
    try:
        yield
    finally:
        stack.scale(lab, "mapserver", former, say=maps.quiet)


def name(count: int) -> str:
    """Return the name of the trials of so many map servers."""
    return f"servers-{count}"


def grown(lab: Lab, folder: Path, number: int) -> None:
    """Measure each number of map servers once, in an order that is drawn anew."""
    for count in random.Random(number).sample(COUNTS, len(COUNTS)):
        stack.scale(lab, "mapserver", count, say=maps.quiet)
        cluster.ready(lab, say=None)
        _asked(lab, count).save(series.path(folder, name(count), number))


def remembered(lab: Lab, folder: Path, number: int) -> None:
    """Write down what each Pi of a whole lab holds in memory, right after maps were asked for."""
    maps.whole(lab)
    stack.spread(lab, say=maps.quiet)
    with _loaded(lab, maps.SERVERS):
        about = _about(lab)
    found = nodes.each(lab, lambda node: [
        (0.0, node.name, "memory", part, f"{size:.1f}")
        for part, size in parts(node.run(["sh", "-c", _MEMORY], timeout=60).out).items()])
    run.make([], settings=about, system=sum(found, [])).save(series.path(folder, "memory", number))


def sized(lab: Lab, folder: Path) -> None:
    """Write down how large the engine says that map server and database are as images."""
    table = images.build(lab, [lab.serves, "postgis"], say=maps.quiet)
    system = [(0.0, "", "image", line.image, f"{line.size:.1f}")
              for line in table.rename(columns={"size MB": "size"}).itertuples()]
    run.make([], settings=_about(lab), system=system).save(series.path(folder, "images", 1))


def used(text: str) -> float:
    """Return the processor seconds that a control group has used, of what its files say.

    The first version of them tells nanoseconds in cpuacct.usage, the second microseconds in
    cpu.stat (cgroups(7)). Where both are, one may be there for its name only, and says 0.
    """
    words = [line.split() for line in text.splitlines() if line.strip()]
    found = [int(line[0]) / 1e9 for line in words if len(line) == 1]
    found += [int(line[1]) / 1e6 for line in words if line[0] == "usage_usec"]
    if not found:
        raise GrowthError("no control group tells what a map server uses: it was replaced "
                          "meanwhile; see gislab status, and run it again")
    return max(found)


def parts(text: str) -> dict[str, float]:
    """Return part -> MB on one Pi, of what `docker stats` and /proc/*/status said there.

    Pages of a program's file are there once, however many processes run it (proc(5): RssFile).
    """
    found, files = {ENGINE: 0.0}, {}
    for line in text.splitlines():
        first, second, *rest = line.split()
        if first.isdigit():
            if rest[0].startswith(("dockerd", "containerd")):
                found[ENGINE] += int(first) * MEGA["KiB"]
                files[rest[0]] = max(int(second) * MEGA["KiB"], files.get(rest[0], 0))
            continue
        told = re.fullmatch(r"([\d.]+)(\w+)", second)
        if told is None or not float(told[1]):
            raise GrowthError("no control group tells of memory; see docs/faults.md")
        part = first.removeprefix(f"{stack.NAME}_").split(".")[0].rstrip("0123456789")
        found[part] = found.get(part, 0) + float(told[1]) * MEGA[told[2]]
    found[ENGINE] += sum(files.values())
    return found


def _asked(lab: Lab, count: int) -> Run:
    """Ask for maps in a closed loop, then for none, reading what the containers use."""
    found = stack.containers(lab, "mapserver")
    events, system, read = [], [], {}

    def note(kind: str) -> None:
        start = probes.now()
        read[kind] = nodes.each(lab, _use, found)
        at = (start + probes.now()) / 2
        events.append((at, kind))
        system.extend((at, node.name, kind, container[:12], f"{seconds:.6f}")
                      for (node, container), seconds in zip(found, read[kind], strict=True))

    with _loaded(lab, count) as probes:
        note("begin")
        probes.watch(SECONDS)
        note("end")
    note("rest")
    threading.Event().wait(CALM)
    note("rested")
    shares = [b - a for a, b in zip(read["begin"], read["end"], strict=True)]
    if min(shares) < max(shares) / 4:
        raise GrowthError("HAProxy did not ask all map servers alike, they used "
                          f"{', '.join(f'{s:.1f} s' for s in shares)}; see gislab status")
    return run.make(probes.samples(), events, settings=_about(lab, servers=count), system=system)


@contextmanager
def _loaded(lab: Lab, count: int) -> Iterator[probe.Probes]:
    """Have clients ask for maps at the VIP; yield when every server has drawn its share."""
    maps_at_vip = question.Maps(maps.sized(lab.maps_url, SIZE), judge=_whole,
                                timeout=probe.PATIENCE, connect=2)
    # a limit, and a rate that is never reached: who waits for an answer does not ask
    with probe.Probes({"maps": maps_at_vip}, rate=LOOK, limit=CLIENTS * count) as probes:
        def warm() -> None:
            probes.watch(0)  # says what made them stop
            drawn = probes.recent(0)["maps"].count("ok")
            if drawn < WARM * count:
                raise NotYet(f"{drawn} maps")
        until(warm, what=f"{WARM * count} maps", timeout=300)
        yield probes


def _use(pair: tuple[nodes.Node, str]) -> float:
    """Return the seconds of a container; from outside, so that asking costs it nothing."""
    node, container = pair
    where = [f"*{container}*/{file}" for file in ("cpuacct.usage", "cpu.stat")]
    return used(node.run(["find", "/sys/fs/cgroup", "(", "-path", where[0], "-o", "-path",
                          where[1], ")", "-exec", "cat", "{}", "+"], check=False).out)


def _whole(answer: httpx.Response) -> str:
    fault = (question.png_fault(answer.content, SIZE, SIZE) if answer.status_code == 200
             else f"HTTP {answer.status_code}")
    if fault:
        raise question.Failed(fault)
    return ""


def _about(lab: Lab, **more: object) -> dict:
    return run.about(lab, fault="", title="maps", images=stack.digests(lab), **more)

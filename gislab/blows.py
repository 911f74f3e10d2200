"""What is done to the victim of a fault, and how it is undone.

Every `mend` is safe to repeat, also where nothing was broken; those that need a Pi to answer ask
again for a while, as the fault itself may be the reason that it does not. Each ends with the
whole lab answering.
"""

from __future__ import annotations

from collections.abc import Callable

from . import cluster, cuts, delay, nodes, postgis, registry, stack
from .settings import PROJECT, Lab
from .shell import Unreachable
from .victims import Target
from .wait import NotYet, until

WHOLE = 180  # seconds for a lab to come back after a fault was undone
FULL = "/run/gislab/full"  # in a map server's container
SQUEEZE = PROJECT / "gislab" / "data" / "squeeze.sh"
FLOOR = 6 << 20  # bytes; the least that Docker takes for a limit ("docker run", --memory)
BUSY = 900  # seconds after which a busy process ends by itself, even if nobody undoes it


def whole(lab: Lab, target: Target) -> None:
    """Wait until every part of the lab answers."""
    cluster.ready(lab, say=None, timeout=WHOLE)


def hand_over(lab: Lab, target: Target) -> None:
    """Hand the primary's role to a replica, as planned work does."""
    postgis.switchover(lab, say=lambda text: None)


def kill(lab: Lab, target: Target) -> None:
    """Kill a container with all that is in it."""
    nodes.get(lab, target.node).docker("kill", "--signal", "KILL", target.container)


def kill_postmaster(lab: Lab, target: Target) -> None:
    """Kill the postmaster alone; its children notice its death and end by themselves."""
    # The first line of postmaster.pid is the postmaster's number (PostgreSQL, 17.3, "Starting
    # the Database Server").
    script = "kill -9 $(head -qn 1 /var/lib/postgresql/*/postmaster.pid)"
    nodes.get(lab, target.node).docker("exec", target.container, "sh", "-c", script)


def replaced(service: str) -> Callable[[Lab, Target], None]:
    """Return a `mend` that waits until Swarm has put a new container in the dead one's place."""
    def mend(lab: Lab, target: Target) -> None:
        def ask() -> None:
            # The containers are counted on the Pis: Swarm's own count lags behind a kill.
            replicas = {s["Name"]: s["Replicas"].split()[0] for s in stack.services(lab)}
            wanted = int(replicas[f"{stack.NAME}_{service}"].partition("/")[2])
            running = len(stack.containers(lab, service))
            if running < wanted:
                raise NotYet(f"{running} of {wanted} run")
        until(ask, what=f"{service} on {target.node} to be replaced", timeout=120)
        whole(lab, target)
    return mend


def replaced_there(lab: Lab, target: Target) -> None:
    """Wait until Swarm has replaced a container of the service that the target names."""
    replaced(target.what.split()[0])(lab, target)


def stop_postgres(lab: Lab, target: Target) -> None:
    """Send SIGSTOP to the postmaster and its children; Patroni beside them goes on."""
    nodes.get(lab, target.node).docker("exec", target.container, "sh", "-c", _signal("STOP"))


def go_on_postgres(lab: Lab, target: Target) -> None:
    """Let the processes of stop_postgres go on; a container that is gone has none."""
    _insist(lab, target, "docker", "exec", target.container, "sh", "-c", _signal("CONT"))
    whole(lab, target)


def pause(lab: Lab, target: Target) -> None:
    """Freeze a container, Patroni and all: to the network it looks alive, and says nothing."""
    nodes.get(lab, target.node).docker("pause", target.container)


def pause_consul(lab: Lab, target: Target) -> None:
    """Freeze the Consul servers of the target's Pis, all at the same moment.

    Swarm would start a killed one again within two seconds; it leaves a frozen one alone.
    """
    found = {node.name: container for node, container in stack.containers(lab, "consul")}

    def do(name: str) -> None:
        nodes.get(lab, name).docker("pause", found[name])
    nodes.each(lab, do, target.nodes)


def unpause(lab: Lab, target: Target) -> None:
    """Let everything go on that is paused on the target's Pis."""
    _insist(lab, target, "sh", "-c",
            "docker ps -q --filter status=paused | xargs -r docker unpause")
    whole(lab, target)


def pause_registry(lab: Lab, target: Target) -> None:
    """Freeze the registry on this machine: whoever pulls an image waits, and gets none."""
    registry.pause(lab)


def unpause_registry(lab: Lab, target: Target) -> None:
    """Let the registry go on."""
    registry.unpause(lab)
    whole(lab, target)


def cut_power(lab: Lab, target: Target) -> None:
    """Take the power from the target's Pis, from all at the same moment."""
    nodes.each(lab, lambda name: nodes.power_cut(lab, name), target.nodes)


def give_power(lab: Lab, target: Target) -> None:
    """Give the target's Pis their power back, to all at the same moment.

    One alone might wait for the other: two managers of three are the Swarm's majority.
    """
    nodes.each(lab, lambda name: nodes.power_on(lab, name), target.nodes)
    whole(lab, target)


def unplug(lab: Lab, target: Target) -> None:
    """Pull the network cable of a Pi."""
    nodes.unplug(lab, target.node)


def plug(lab: Lab, target: Target) -> None:
    """Put the network cable of a Pi back."""
    nodes.plug(lab, target.node)
    whole(lab, target)


def cut(grudge: Callable[[Lab, str], cuts.Grudge], share: float = 1
        ) -> Callable[[Lab, Target], None]:
    """Return a `hit` that cuts the network as `grudge(lab, the target's Pi)` says; see cuts."""
    return lambda lab, target: cuts.cut(lab, grudge(lab, target.node), share)


def cut_link(lab: Lab, target: Target) -> None:
    """Cut the target's two Pis from each other; both hear the rest."""
    cuts.cut(lab, {target.node: list(target.others),
                   **{other: [target.node] for other in target.others}})


def join(lab: Lab, target: Target) -> None:
    """Take every cut away."""
    cuts.mend(lab)
    whole(lab, target)


def slow(lab: Lab, target: Target) -> None:
    """Slow what the Pis send to each other."""
    delay.begin(lab)


def fast(lab: Lab, target: Target) -> None:
    """Take the slowness away on each of the target's Pis."""
    _insist(lab, target, "sh", "-c", delay.FORGET)
    whole(lab, target)


def squeeze(lab: Lab, target: Target) -> None:
    """Leave a container a quarter of the memory that it uses, or as little as the kernel allows,
    and have somebody ask for more in it; see data/squeeze.sh."""
    nodes.get(lab, target.node).run(
        ["bash", "-c", SQUEEZE.read_text(), "squeeze", target.container, str(FLOOR)])


def relieve(lab: Lab, target: Target) -> None:
    """Give a container the memory back that its service is allowed, if it lives still.

    One that did not survive, Swarm has replaced by one with all its memory.
    """
    service = target.what.split()[0]
    allowed = int(nodes.manager(lab).docker(
        "service", "inspect", f"{stack.NAME}_{service}", "--format",
        "{{.Spec.TaskTemplate.Resources.Limits.MemoryBytes}}"))
    _insist(lab, target, "docker", "update", "--memory", str(allowed),
            "--memory-swap", str(2 * allowed), target.container)  # Docker's own default
    replaced(service)(lab, target)


def fill(lab: Lab, target: Target) -> None:
    """Fill the disk in memory in which a map server keeps its catalog; it has a size (gis.yml)."""
    # more than it holds: if that finds room, it is no disk of a size, and must not be filled
    script = (f"if head -c 256M /dev/zero > {FULL} 2>/dev/null; then rm {FULL}; "
              "echo it has no size >&2; exit 1; fi")
    nodes.get(lab, target.node).docker("exec", target.container, "sh", "-c", script)


def clear(lab: Lab, target: Target) -> None:
    """Remove what `fill` wrote; of a container that is gone, it is gone, too."""
    _insist(lab, target, "docker", "exec", target.container, "rm", "-f", FULL)
    whole(lab, target)


def busy(lab: Lab, target: Target) -> None:
    """Keep every processor of the target's Pis busy, with processes as nice as any other's."""
    script = (f"for i in $(seq $(nproc)); do setsid nohup timeout {BUSY} "
              "bash -c 'exec -a gislab-busy bash -c \"while :; do :; done\"' "
              "> /dev/null 2>&1 < /dev/null & done")
    nodes.each(lab, lambda name: nodes.get(lab, name).run(["bash", "-c", script]), target.nodes)


def idle(lab: Lab, target: Target) -> None:
    """End what `busy` began."""
    # the brackets: the pattern must not find the shell that it is written in
    _insist(lab, target, "sh", "-c", "pkill -KILL -f '[g]islab-busy'")
    whole(lab, target)


def _insist(lab: Lab, target: Target, *words: str) -> None:
    """Run a command on each of the target's Pis, whatever its exit code, once they answer."""
    def run(name: str) -> None:
        def ask() -> None:
            try:
                nodes.get(lab, name).run(words, check=False)
            except Unreachable as error:
                raise NotYet(str(error.result.err).strip()[-120:] or "no answer") from None
        until(ask, what=f"{name} to answer", timeout=60, every=1)
    nodes.each(lab, run, target.nodes)


def _signal(name: str) -> str:
    """Return a shell script that sends a signal to every process of PostgreSQL.

    The postmaster first, whose number is the lowest: so it makes no child meanwhile.
    """
    return ("for f in $(ls /proc/[0-9]*/comm | sort -t/ -nk3); do "
            f'test "$(cat $f)" = postgres && kill -{name} $(echo $f | cut -d/ -f3); '
            "done 2> /dev/null; true")

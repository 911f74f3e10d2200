"""Take the lab off real Pis, which others will use again, and tell what of it is left."""

from __future__ import annotations

from . import cuts, nodes, registry, stack
from .settings import Lab
from .shell import CommandFailed
from .wait import NotYet, WaitTimeout, until

VOLUMES = tuple(f"{stack.NAME}_{name}" for name in ("consul", "postgis", "backup", "postgis2016"))
_OURS = f"label=com.docker.stack.namespace={stack.NAME}"
# what a fault may have left: something paused, and processes that keep the processor busy
_CALM = ("docker ps -q --filter status=paused | xargs -r docker unpause; "
         "pkill -KILL -f '[g]islab-busy'; true")


def clear(lab: Lab, say=print) -> list[str]:
    """Remove the lab from every Pi that answers; return what is left, silent Pis among it.

    First what a fault has left there is undone: a Swarm that is cut apart removes nothing.
    """
    alive = nodes.alive(lab)
    left = [f"{m.name} does not answer" for m in lab.machines
            if m.name not in {node.name for node in alive}]
    nodes.each(lab, _calm, alive)
    try:
        stack.remove(lab, say=say)
    except nodes.NodeError:
        say("swarm: none stands")
    except (CommandFailed, WaitTimeout) as error:  # its containers go with the Swarm below
        say(f"stack {stack.NAME}: {error}")
    where = registry.address(lab) if alive else ""
    found = nodes.each(lab, lambda node: _from(node, where), alive)
    for node, rest in zip(alive, found, strict=True):
        say(f"{node.name}: " + (f"still holds {', '.join(rest)}" if rest
                                else "nothing of the lab is left"))
        left += [f"{node.name} still holds {', '.join(rest)}"] if rest else []
    return left


def _calm(node: nodes.Node) -> None:
    for undo in (cuts.mend_on, lambda node: node.run(["sh", "-c", _CALM], check=False)):
        try:
            undo(node)
        except CommandFailed:  # what it means is told below, by what is left
            continue


def _from(node: nodes.Node, where: str) -> list[str]:
    """Remove the lab from one Pi; return what is left of it there."""
    folders = [stack.ON_PI, f"/etc/docker/certs.d/{where}"]
    try:
        node.run(["docker", "swarm", "leave", "--force"], check=False)

        def gone() -> None:
            if node.docker("ps", "-aq", "--filter", _OURS):
                raise NotYet("containers still stop")
        try:
            until(gone, what=f"{node.name} to be empty", timeout=60, every=0.5)
        except WaitTimeout:
            node.run(["sh", "-c", f"docker ps -aq --filter {_OURS} | xargs -r docker rm -f"],
                     check=False)
        node.run(["docker", "volume", "rm", "--force", *VOLUMES], check=False)
        images = _images(node, where)
        if images:
            node.run(["docker", "rmi", "--force", *images], check=False, timeout=300)
        node.run(["docker", "logout", where], check=False)
        node.run(["rm", "-rf", *folders])
        return _left(node, where, folders)
    except CommandFailed as error:
        return [f"what it did not tell ({error.result.err.strip()[-120:] or 'no answer'})"]


def _left(node: nodes.Node, where: str, folders: list[str]) -> list[str]:
    """Name what of the lab a Pi holds."""
    state = node.docker("info", "--format", "{{.Swarm.LocalNodeState}}")
    volumes = node.docker("volume", "ls", "-q").split()
    there = node.run(["ls", "-d", *folders], check=False).out.split()
    return [*(["its place in the Swarm"] if state != "inactive" else []),
            *(f"container {name}" for name in node.docker("ps", "-aq", "--filter", _OURS).split()),
            *(f"volume {name}" for name in VOLUMES if name in volumes),
            *(f"image {name}" for name in _images(node, where)),
            *(f"folder {name}" for name in there)]


def _images(node: nodes.Node, where: str) -> list[str]:
    out = node.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
    return [line for line in out.splitlines() if line.startswith(f"{where}/")]

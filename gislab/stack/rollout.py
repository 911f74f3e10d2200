"""Other tasks while the service goes on: more or fewer, newer, on other Pis."""

from __future__ import annotations

from .. import nodes, registry
from ..settings import Lab
from ..shell import CommandFailed
from ..wait import NotYet, until
from .named import NAME, StackError
from .state import UPDATE, containers, services, stopped, wait


def scale(lab: Lab, service: str, count: int, *, say=print, timeout: float = 180) -> None:
    """Run `count` tasks of a replicated service, and wait until they run."""
    manager = nodes.manager(lab)
    try:
        manager.docker("service", "scale", "--detach", f"{NAME}_{service}={count}")
    except CommandFailed as error:
        names = ", ".join(s["Name"].removeprefix(NAME + "_") for s in services(lab))
        raise StackError(f"{service} cannot be scaled to {count}: "
                         f"{error.result.err.strip()} (services: {names})") from None
    wait(lab, say=None, timeout=timeout)

    def counted():  # Swarm counts a task as gone before its container is
        running = len(containers(lab, service))
        if running != count:
            raise NotYet(f"{running} of {count} containers")
    until(counted, what=f"{count} containers of {service}", timeout=timeout, progress=None)
    say(f"{service}: {count} running")


def update(lab: Lab, service: str, image: str | None = None, *, say=print,
           timeout: float = 600) -> None:
    """Replace the tasks of a service one after another, each when the one before is well.

    Parameters
    ----------
    image : a full reference that the Pis can pull; by default the lab's own of this service.
    timeout : float, seconds for all tasks together.

    Raises
    ------
    StackError : there is no such service, or a new task did not run: the rest are the old ones.
    """
    image = image or registry.reference(lab, lab.serves if service == "mapserver" else service)
    _replace(lab, service, "--image", image, "--with-registry-auth", "--no-resolve-image",
             timeout=timeout, progress=say)
    say(f"{service}: every task runs {image.rpartition('/')[2]}")


def spread(lab: Lab, service: str = "mapserver", *, say=print, timeout: float = 600) -> None:
    """Place a service's tasks evenly again: Swarm leaves them where a fault has driven them.

    Nothing is done where no Pi has two tasks more than another; else every task is replaced, one
    after another. `timeout` is in seconds, for all of them; WaitTimeout says what is missing.
    StackError: a new task did not run, the rest are where they were.
    """
    counts = [0 for _ in lab.machines]
    for node, _ in containers(lab, service):
        counts[[m.name for m in lab.machines].index(node.name)] += 1
    if max(counts) - min(counts) < 2:
        say(f"{service}: spread evenly already, {' + '.join(map(str, counts))}")
        return
    _replace(lab, service, timeout=timeout)
    say(f"{service}: spread evenly")


def replace(lab: Lab, services: list[str], *how: str, timeout: float, every: float = 1,
            progress=None) -> list[str]:
    """Have Swarm replace every task of some services; return how that ended, e.g. `completed`.

    Also where nothing else changes (--force); `how` are more words of `docker service update`.
    """
    manager = nodes.manager(lab)
    for service in services:
        manager.docker("service", "update", "--detach", "--force", *how, f"{NAME}_{service}")
    return [until(lambda name=f"{NAME}_{service}": _updated(manager, name),
                  what=f"{service} to be updated", timeout=timeout, every=every,
                  progress=progress) for service in services]


def _replace(lab: Lab, service: str, *how: str, timeout: float, progress=None) -> None:
    """Replace the tasks of one service, and wait for all of the stack; StackError as said."""
    try:
        (state,) = replace(lab, [service], *how, timeout=timeout, progress=progress)
    except CommandFailed as error:
        raise StackError(f"{service} cannot be updated: {error.result.err.strip()}") from None
    if state != "completed":
        raise StackError(stopped(service, state))
    wait(lab, say=None, timeout=timeout)


def _updated(manager: nodes.Node, name: str) -> str:
    state = manager.docker("service", "inspect", name, "--format", UPDATE)
    if state in ("", "updating"):
        raise NotYet("Swarm replaces its tasks one by one")
    return state

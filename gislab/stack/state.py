"""What Swarm makes of it: services, tasks and containers, and whether all of them are there."""

from __future__ import annotations

import json

import pandas as pd

from .. import nodes
from ..settings import Lab
from ..shell import CommandFailed
from ..wait import NotYet, until
from .named import NAME, StackError

UPDATE = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}"  # of a service, for its inspection


def wait(lab: Lab, say=print, timeout: float = 300) -> None:
    """Wait until Swarm runs every task of every service, and has none left to update."""
    until(lambda: settled(lab), what="all tasks running", timeout=timeout, every=1, progress=say)


def settled(lab: Lab) -> None:
    """Raise NotYet while a task is missing, or Swarm still replaces some.

    A missing one is told with the last error of its service, e.g. that a port is taken, and with
    the last words of a program that ended. StackError where Swarm stopped replacing them: it does
    not go on by itself.
    """
    missing = {}
    for service in services(lab):
        running, _, wanted = service["Replicas"].split(" ")[0].partition("/")
        if running != wanted:
            missing[service["Name"].removeprefix(NAME + "_")] = f"{running}/{wanted}"
    states = updates(lab)
    paused = [stopped(name, state) for name, state in states.items() if state == "paused"]
    if paused:
        raise StackError("; ".join(paused))
    if missing:
        said = _errors(lab, set(missing))
        raise NotYet(", ".join(f"{name} {count}" + (f" ({said[name]})" if name in said else "")
                               for name, count in missing.items()))
    updating = [name for name, state in states.items() if state == "updating"]
    if updating:
        raise NotYet("Swarm updates " + ", ".join(updating))


def services(lab: Lab) -> list[dict]:
    """Return `docker stack services` as dictionaries; NotYet while there are none.

    A service of every Pi is wanted on each that takes tasks: Swarm itself leaves out of
    `Replicas` a task that waits for its next start, and 0/0 would look whole.
    """
    found = _listed(lab)
    of_every_pi = [service for service in found if service["Mode"] == "global"]
    each = _taking_tasks(lab) if of_every_pi else 0
    for service in of_every_pi:
        running, _, wanted = service["Replicas"].partition("/")
        service["Replicas"] = f"{running}/{max(each, int(wanted))}"
    return found


def _listed(lab: Lab) -> list[dict]:
    out = nodes.manager(lab).docker("stack", "services", "--format", "{{json .}}", NAME)
    if not out:
        raise NotYet("no service is deployed")
    return [json.loads(line) for line in out.splitlines()]


def _taking_tasks(lab: Lab) -> int:
    """Return how many Pis Swarm gives tasks to: those that answer it and are not drained."""
    out = nodes.manager(lab).docker("node", "ls", "--format", "{{.Status}} {{.Availability}}")
    return out.splitlines().count("Ready Active")


def tasks(lab: Lab) -> pd.DataFrame:
    """Return one row for each task that is wanted: service, node, state, since, error."""
    rows = _tasks(lab, "--filter", "desired-state=running")
    table = pd.DataFrame(rows, columns=["service", "node", "state", "since", "error"])
    return table.sort_values(["service", "node"], ignore_index=True)


def containers(lab: Lab, service: str) -> list[tuple[nodes.Node, str]]:
    """Return (Pi, container id) of each running container of a service, Pis that answer only."""
    def ask(node: nodes.Node):
        try:
            out = node.docker("ps", "-q", "--no-trunc", "--filter",
                              f"label=com.docker.swarm.service.name={NAME}_{service}", timeout=15)
        except CommandFailed:
            return []
        return [(node, word) for word in out.split()]
    return [pair for pairs in nodes.each(lab, ask) for pair in pairs]


def running(lab: Lab, service: str) -> list[tuple[str, str]]:
    """Return (name of the Pi, name of the container in itself) of each, see `containers`."""
    return [(node.name, container[:12]) for node, container in containers(lab, service)]


def digests(lab: Lab) -> dict[str, str]:
    """Return image -> `tag@digest` of what runs now, of those Pis that answer.

    The digest is the image's own (of its configuration, and so of all its layers): the same on
    every Pi, and in `gislab images` on the machine that built it. Two Pis that run two builds of
    one image are both told, with ` and ` between.
    """
    wanted = f"label=com.docker.stack.namespace={NAME}"
    script = (f"docker ps -q --filter {wanted} | xargs -r docker inspect "
              "--format '{{.Config.Image}} {{.Image}}'")

    def ask(node: nodes.Node) -> list[str]:
        try:
            return node.run(["sh", "-c", script], timeout=15).out.splitlines()
        except CommandFailed:
            return []
    found: dict[str, set[str]] = {}
    for line in sorted(line for lines in nodes.each(lab, ask) for line in lines):
        reference, digest = line.split()
        name, _, tag = reference.split("@")[0].rpartition("/")[2].partition(":")
        found.setdefault(name, set()).add(f"{tag}@{digest}")
    return {name: " and ".join(sorted(built)) for name, built in found.items()}


def updates(lab: Lab) -> dict[str, str]:
    """Return service -> how far Swarm is with replacing its tasks; "" where it never did."""
    names = [service["Name"] for service in _listed(lab)]
    out = nodes.manager(lab).docker("service", "inspect", *names, "--format",
                                    "{{.Spec.Name}}=" + UPDATE)
    return {name.removeprefix(NAME + "_"): state
            for name, _, state in (line.partition("=") for line in out.splitlines())}


def stopped(service: str, state: str) -> str:
    return (f"{service}: Swarm {state} the update, since a new task did not run; "
            f"see: docker service ps {NAME}_{service}, then gislab up")


def _tasks(lab: Lab, *which: str) -> list[dict[str, str]]:
    """Return `docker stack ps`, of each place in a service the newest task first."""
    out = nodes.manager(lab).docker("stack", "ps", "--no-trunc", "--format", "{{json .}}",
                                    *which, NAME)
    rows = []
    for line in out.splitlines():
        task = json.loads(line)
        state, _, since = task["CurrentState"].partition(" ")
        place = task["Name"].removeprefix(NAME + "_")
        rows.append({"id": task["ID"], "service": place.split(".")[0], "place": place,
                     "node": task["Node"], "state": state, "since": since,
                     "error": task["Error"].strip('"')})
    return rows


def _errors(lab: Lab, wanted: set[str]) -> dict[str, str]:
    """Return service, of those wanted -> the last error of a place where no task runs now."""
    found: dict[str, str] = {}
    served: dict[str, bool] = {}  # by place: whether its newest task, which comes first, runs
    for task in _tasks(lab):
        if (not served.setdefault(task["place"], task["state"] == "Running") and task["error"]
                and task["service"] in wanted - found.keys()):
            where = f"{task['node']}: " if task["node"] else ""  # none, while it has no place
            found[task["service"]] = where + task["error"][-200:] + _last_words(lab, task)
    return found


def _last_words(lab: Lab, task: dict[str, str]) -> str:
    """Return ": " and the last line that a task's program wrote, if its end was its own doing."""
    if "non-zero exit" not in task["error"]:
        return ""
    try:
        said = nodes.manager(lab).run(["docker", "service", "logs", "--raw", "--tail", "40",
                                       task["id"]], check=False, timeout=10)
    except CommandFailed:  # its Pi does not answer
        return ""
    # what is indented are the places of a traceback, after or before the words of its error
    lines = [line.rstrip() for line in (said.err if said.err.strip() else said.out).splitlines()
             if line.strip() and not line[0].isspace()]
    return f": {lines[-1][-200:]}" if lines and not said.code else ""

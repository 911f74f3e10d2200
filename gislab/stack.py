"""The stack of services on the Swarm: deploy, scale, remove; where each task runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import yaml

from . import certificate, nodes, registry, settings
from .settings import PROJECT, Lab
from .shell import CommandFailed, archive
from .wait import NotYet, until

NAME = "gis"
FILE = "gis.yml"
FOLDER = PROJECT / "stack"
ON_PI = "/opt/gislab/stack"  # where a Pi keeps its copy of FOLDER
DATABASE = "gis"


class StackError(RuntimeError):
    """The stack cannot be as asked; the text says what to do."""


def deploy(lab: Lab, *, file: str = FILE, more: dict[str, bytes] | None = None,
           say=print) -> bool:
    """Deploy stack/gis.yml; return whether anything changed.

    Parameters
    ----------
    file : another stack file of that folder, which takes the place of gis.yml.
    more : files that it needs besides, name -> content.
    """
    manager = nodes.manager(lab)
    secrets(lab, say=say)
    files, environment, fingerprint = _wanted(lab, file, more)
    if _deployed(manager) == fingerprint:
        say(f"stack {NAME}: unchanged")
        return False
    _send(lab, file, files, {**environment, "DEPLOYED": fingerprint}, "--prune")
    what = NAME if file == FILE else f"{NAME} of {file}"
    say(f"stack {what}: deployed from {manager.name}, serving maps with {lab.serves}")
    return True


def outdated(lab: Lab) -> bool:
    """Tell whether the stack stands, and not as stack/gis.yml and the settings say now."""
    return _deployed(nodes.manager(lab)) not in ("", _wanted(lab)[2])


def renew(lab: Lab, service: str, say=print) -> bool:
    """Deploy one service of stack/gis.yml alone; tell whether Swarm replaces its tasks for it.

    All others stay as they are: what a file does not name is removed with --prune only.
    """
    secrets(lab, say=say)
    files, environment, _ = _wanted(lab)
    whole = yaml.safe_load(files[FILE])
    alone = {key: value for key, value in whole.items() if not key.startswith("x-")} | {
        "services": {service: whole["services"][service]}}
    before = _template(lab, service)
    _send(lab, "one.yml", {**files, "one.yml": yaml.safe_dump(alone).encode()}, environment)
    return _template(lab, service) != before


def alike(lab: Lab, service: str, other: str) -> bool:
    """Tell whether two members run the same but for what makes each itself: name and place."""
    def common(name: str) -> dict:
        template = _template(lab, name)
        container = template["ContainerSpec"]
        return {**template, "ForceUpdate": 0, "Placement": {}, "ContainerSpec": {
            **container, "Hostname": "", "Env": [
                word for word in container.get("Env", ()) if word != f"MEMBER={name}"]}}
    return common(service) == common(other)


def secrets(lab: Lab, say=print) -> None:
    """Give the Swarm each secret of the lab that it does not hold yet.

    Raises
    ------
    StackError : the Swarm holds another value than this machine, so this is another lab's.
    """
    manager = nodes.manager(lab)
    out = manager.docker("secret", "ls", "--format", '{{.Name}} {{.Labels}}')
    held = {line.split()[0]: line for line in out.splitlines() if line}
    values = {name: lab.secret(name) for name in settings.SECRETS}
    values[certificate.IDENTITY] = certificate.identity(lab)
    values[certificate.MAPS] = certificate.maps(lab)
    for name, value in values.items():
        mark = f"gislab.digest={_digest(value.encode())}"
        if name not in held:
            manager.docker("secret", "create", "--label", mark, name, "-", input=value)
            say(f"secret {name}: given to the Swarm")
        elif mark not in held[name]:
            raise StackError(f"the Swarm's secret {name} is not the one in {lab.home}: it was "
                             "brought up from elsewhere. Run gislab down, then gislab up")


def wait(lab: Lab, say=print, timeout: float = 300) -> None:
    """Wait until Swarm runs every task of every service, and has none left to update."""
    until(lambda: settled(lab), what="all tasks running", timeout=timeout, every=1, progress=say)


def settled(lab: Lab) -> None:
    """Raise NotYet while a task is missing, or Swarm still replaces some.

    A missing one is told with the last error of its service, e.g. that a port is taken.
    """
    missing = {}
    listed = services(lab)
    for service in listed:
        running, _, wanted = service["Replicas"].split(" ")[0].partition("/")
        if running != wanted:
            missing[service["Name"].removeprefix(NAME + "_")] = f"{running}/{wanted}"
    if missing:
        said = _errors(lab)
        raise NotYet(", ".join(f"{name} {count}" + (f" ({said[name]})" if name in said else "")
                               for name, count in missing.items()))
    out = nodes.manager(lab).docker(
        "service", "inspect", *[service["Name"] for service in listed], "--format",
        "{{.Spec.Name}}={{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")
    updating = [line.split("=")[0] for line in out.splitlines() if line.endswith("=updating")]
    if updating:
        raise NotYet("Swarm updates " + ", ".join(updating))


def services(lab: Lab) -> list[dict]:
    """Return `docker stack services` as dictionaries; NotYet while there are none."""
    out = nodes.manager(lab).docker("stack", "services", "--format", "{{json .}}", NAME)
    if not out:
        raise NotYet("no service is deployed")
    return [json.loads(line) for line in out.splitlines()]


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


def remove(lab: Lab, say=print) -> None:
    """Remove the stack; the volumes, and so the data, stay on the Pis."""
    nodes.manager(lab).docker("stack", "rm", NAME, timeout=120)

    def gone():
        left = [c for node in nodes.alive(lab) for c in node.docker(
            "ps", "-aq", "--filter", f"label=com.docker.stack.namespace={NAME}").split()]
        if left:
            raise NotYet(f"{len(left)} containers still stop")
    until(gone, what="the stack to be gone", timeout=120, every=1)
    say(f"stack {NAME}: removed")


def _wanted(lab: Lab, file: str = FILE, more: dict[str, bytes] | None = None
            ) -> tuple[dict[str, bytes], dict[str, str], str]:
    """Return a stack's files, what ${...} in them stands for, and the fingerprint of both."""
    files = {**_files(file), **(more or {})}
    environment = _environment(lab, files)
    return files, environment, _digest(json.dumps(environment, sort_keys=True).encode()
                                       + files[file])


def _send(lab: Lab, file: str, files: dict[str, bytes], environment: dict[str, str],
          *how: str) -> None:
    manager = nodes.manager(lab)
    nodes.each(lab, lambda node: registry.trust(lab, node))
    manager.run(["sh", "-c", f"mkdir -p {ON_PI} && tar -x -C {ON_PI}"], input=archive(files))
    words = [f"{key}={value}" for key, value in environment.items()]
    manager.run(["env", "-C", ON_PI, *words, "docker", "stack", "deploy", "--compose-file", file,
                 "--with-registry-auth", *how, "--resolve-image", "never", NAME], timeout=120)


def _template(lab: Lab, service: str) -> dict:
    """Return what the tasks of a service are made by; another one, and Swarm replaces them."""
    return json.loads(nodes.manager(lab).docker("service", "inspect", f"{NAME}_{service}",
                                                "--format", "{{json .Spec.TaskTemplate}}"))


def _files(file: str) -> dict[str, bytes]:
    """Return a stack file and what belongs to it: 2016-... to 2016.yml, the rest to gis.yml."""
    others = tuple(p.stem for p in FOLDER.glob("*.yml") if p.name != FILE)
    own = Path(file).stem
    return {p.name: p.read_bytes() for p in sorted(FOLDER.iterdir()) if p.is_file() and (
        not p.name.startswith(others) if file == FILE else p.name.startswith(own))}


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


def _environment(lab: Lab, files: dict[str, bytes]) -> dict[str, str]:
    """Return what ${...} in the stack file stands for."""
    images = {f"IMAGE_{name.upper()}": registry.reference(lab, name)
              for name in ("consul", "postgis", "pgpool", "haproxy", "keepalived")}
    hashes = {"HASH_" + name.upper().replace(".", "_").replace("-", "_"): _digest(data)
              for name, data in files.items() if not name.endswith(".yml")}
    return {
        **images, **hashes,
        "IMAGE_MAPSERVER": registry.reference(lab, lab.serves),
        "MAP_SERVER": lab.serves,
        # the secret by which layers are written to, only for the server that can
        "MAP_WRITER": "gis_password" if lab.serves == "geoserver" else "reader_password",
        "GEOSERVER_CONSOLE": "on" if lab.console and lab.serves == "geoserver" else "off",
        # how long Swarm leaves a new map server alone before it replaces the next one
        "MAP_UPDATE_DELAY": "20s" if lab.serves == "geoserver" else "5s",
        "LAB": lab.name,
        "DATABASE": DATABASE,
        "VIP": lab.vip,
        "SUBNET": lab.subnet,
        "NODES": settings.peers(lab),
        "PORT_MAPS": str(lab.ports.maps),
        "PORT_HTTPS": str(lab.ports.https),
        "PORT_SQL": str(lab.ports.sql),
        "PORT_PRIMARY": str(lab.ports.primary),
        "PORT_REPLICAS": str(lab.ports.replicas),
        "PORT_STATS": str(lab.ports.stats),
    }


def _tasks(lab: Lab, *which: str) -> list[dict[str, str]]:
    """Return `docker stack ps`, of each place in a service the newest task first."""
    out = nodes.manager(lab).docker("stack", "ps", "--no-trunc", "--format", "{{json .}}",
                                    *which, NAME)
    rows = []
    for line in out.splitlines():
        task = json.loads(line)
        state, _, since = task["CurrentState"].partition(" ")
        rows.append({"service": task["Name"].removeprefix(NAME + "_").split(".")[0],
                     "node": task["Node"], "state": state, "since": since,
                     "error": task["Error"].strip('"')})
    return rows


def _errors(lab: Lab) -> dict[str, str]:
    """Return service -> the last error of its tasks, those that have ended among them."""
    found: dict[str, str] = {}
    for task in _tasks(lab):
        if task["error"]:
            where = f"{task['node']}: " if task["node"] else ""  # none, while it has no place
            found.setdefault(task["service"], where + task["error"][-200:])
    return found


def _replace(lab: Lab, service: str, *how: str, timeout: float, progress=None) -> None:
    """Replace the tasks of one service, and wait for all of the stack; StackError as said."""
    try:
        (state,) = replace(lab, [service], *how, timeout=timeout, progress=progress)
    except CommandFailed as error:
        raise StackError(f"{service} cannot be updated: {error.result.err.strip()}") from None
    if state != "completed":
        raise StackError(f"{service}: Swarm {state} the update, since a new task did not run; "
                         f"see: docker service ps {NAME}_{service}, then gislab up")
    wait(lab, say=None, timeout=timeout)


def _updated(manager: nodes.Node, name: str) -> str:
    state = manager.docker("service", "inspect", name, "--format",
                           "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")
    if state in ("", "updating"):
        raise NotYet("Swarm replaces its tasks one by one")
    return state


def _deployed(manager: nodes.Node) -> str:
    """Return the fingerprint of what was last deployed, or "" on a new Swarm."""
    done = manager.run(["docker", "service", "inspect", f"{NAME}_consul", "--format",
                        '{{index .Spec.Labels "gislab.deployed"}}'], check=False)
    return done.out.strip() if done.code == 0 else ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]

"""The stack of services on the Swarm: deploy, scale, remove; where each task runs."""

from __future__ import annotations

import json

import yaml

from .. import certificate, nodes, settings
from ..settings import Lab
from ..wait import NotYet, until
from .compose import FILE, FOLDER, ON_PI, digest, send, wanted
from .named import DATABASE, NAME, StackError
from .rollout import replace, scale, spread, update
from .state import containers, digests, running, services, settled, tasks, updates, wait

__all__ = ["DATABASE", "FILE", "FOLDER", "NAME", "ON_PI", "StackError", "alike", "containers",
           "deploy", "digests", "outdated", "remove", "renew", "replace", "running", "scale",
           "secrets", "services", "settled", "spread", "tasks", "update", "wait"]


def deploy(lab: Lab, *, file: str = FILE, more: dict[str, bytes] | None = None,
           say=print) -> bool:
    """Deploy stack/gis.yml; return whether anything changed.

    An update that Swarm has stopped is begun again by that, too.

    Parameters
    ----------
    file : another stack file of that folder, which takes the place of gis.yml.
    more : files that it needs besides, name -> content.
    """
    manager = nodes.manager(lab)
    secrets(lab, say=say)
    files, environment, fingerprint = wanted(lab, file, more)
    if _deployed(manager) == fingerprint and "paused" not in updates(lab).values():
        say(f"stack {NAME}: unchanged")
        return False
    send(lab, file, files, {**environment, "DEPLOYED": fingerprint}, "--prune")
    what = NAME if file == FILE else f"{NAME} of {file}"
    say(f"stack {what}: deployed from {manager.name}, serving maps with {lab.serves}")
    return True


def outdated(lab: Lab) -> bool:
    """Tell whether the stack stands, and not as stack/gis.yml and the settings say now."""
    return _deployed(nodes.manager(lab)) not in ("", wanted(lab)[2])


def renew(lab: Lab, service: str, say=print) -> bool:
    """Deploy one service of stack/gis.yml alone; tell whether Swarm replaces its tasks for it.

    All others stay as they are: what a file does not name is removed with --prune only.
    """
    secrets(lab, say=say)
    files, environment, _ = wanted(lab)
    whole = yaml.safe_load(files[FILE])
    alone = {key: value for key, value in whole.items() if not key.startswith("x-")} | {
        "services": {service: whole["services"][service]}}
    before = _template(lab, service)
    send(lab, "one.yml", {**files, "one.yml": yaml.safe_dump(alone).encode()}, environment)
    return _template(lab, service) != before


def alike(lab: Lab, service: str, other: str) -> bool:
    """Tell whether two members run the same but for what makes each itself: name and place."""
    def common(name: str) -> dict:
        template = _template(lab, name)
        container = template["ContainerSpec"]
        networks = [{**network, "Aliases": []} for network in template.get("Networks", ())]
        return {**template, "ForceUpdate": 0, "Placement": {}, "Networks": networks,
                "ContainerSpec": {**container, "Hostname": "", "Env": [
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
        mark = f"gislab.digest={digest(value.encode())}"
        if name not in held:
            manager.docker("secret", "create", "--label", mark, name, "-", input=value)
            say(f"secret {name}: given to the Swarm")
        elif mark not in held[name]:
            raise StackError(f"the Swarm's secret {name} is not the one in {lab.home}: it was "
                             "brought up from elsewhere. Run gislab down, then gislab up")


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


def _template(lab: Lab, service: str) -> dict:
    """Return what the tasks of a service are made by; another one, and Swarm replaces them."""
    return json.loads(nodes.manager(lab).docker("service", "inspect", f"{NAME}_{service}",
                                                "--format", "{{json .Spec.TaskTemplate}}"))


def _deployed(manager: nodes.Node) -> str:
    """Return the fingerprint of what was last deployed, or "" on a new Swarm."""
    done = manager.run(["docker", "service", "inspect", f"{NAME}_consul", "--format",
                        '{{index .Spec.Labels "gislab.deployed"}}'], check=False)
    return done.out.strip() if done.code == 0 else ""

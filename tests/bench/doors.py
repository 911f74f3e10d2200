"""One more HAProxy beside the lab's, set up in another way, for the same map servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from gislab import nodes, question, registry, stack, vip
from gislab.settings import Lab
from gislab.shell import CommandFailed
from gislab.wait import NotYet, until

WITHOUT_RETRIES, OF_2016 = "bench_without_retries", "bench_of_2016"  # Swarm services
PORTS = {WITHOUT_RETRIES: 18080, OF_2016: 18081}

# As in 2016, the servers are named when HAProxy starts, and never looked up again.
_START_2016 = """
set -e
cat /etc/haproxy/haproxy.cfg > /tmp/haproxy.cfg    # a copy would be as read-only as it
n=0
for address in $(getent ahostsv4 tasks.mapserver | cut -d' ' -f1 | sort -u); do
  n=$((n + 1))
  echo "    server s$n $address:8080 maxconn 32" >> /tmp/haproxy.cfg
done
exec haproxy -db -q -f /tmp/haproxy.cfg
"""


def without_retries() -> str:
    """Return the lab's haproxy.cfg, for maps only, that asks no server a second time."""
    text = (stack.FOLDER / "haproxy.cfg").read_text()
    head, _, rest = text.partition("# --- SQL")  # the databases are asked often enough
    lines = [line for line in (head + rest[rest.index("# --- statistics"):]).splitlines()
             if not line.strip().startswith(("retry-on", "option redispatch"))]
    return "\n".join(lines).replace("retries 3", "retries 0") + "\n"


def of_2016() -> str:
    """Return stack/2016-haproxy.cfg up to its servers; those come when it starts."""
    return (stack.FOLDER / "2016-haproxy.cfg").read_text().partition("    server s1")[0]


@contextmanager
def beside(lab: Lab, name: str) -> Iterator[str]:
    """Have one more HAProxy on the Pi that holds the VIP; yield the base of its maps' URLs."""
    _remove(lab, name)
    where = until(lambda: _held(lab), what="a holder of the VIP", timeout=60)
    base = f"http://{lab.machine(where).address}:{PORTS[name]}"
    text, command = ((without_retries(), []) if name == WITHOUT_RETRIES
                     else (of_2016(), ["sh", "-c", _START_2016]))
    try:
        nodes.manager(lab).docker("config", "create", name, "-", input=text)
        nodes.manager(lab).docker(*create(lab, name, where), *command)
        until(lambda: _maps_come(base), what=f"maps through {name}", timeout=90, every=0.5)
        yield base
    finally:
        _remove(lab, name)


def create(lab: Lab, name: str, where: str) -> list[str]:
    """Return the words after `docker` that make the service."""
    return ["service", "create", "--quiet", "--detach", "--name", name,
            "--network", f"{stack.NAME}_gis", "--endpoint-mode", "dnsrr",
            "--constraint", f"node.hostname=={where}",
            "--publish", f"mode=host,target=8080,published={PORTS[name]}",
            "--config", f"source={name},target=/etc/haproxy/haproxy.cfg",
            "--secret", "haproxy_password", "--secret", "maps_certificate",
            "--env", "MAPS_CERTIFICATE=/run/secrets/maps_certificate",
            "--env", f"NODE_NAME={where}", "--env", "GEOSERVER_CONSOLE=off",
            "--cap-drop", "ALL", "--limit-memory", "128M", "--no-healthcheck",
            "--stop-grace-period", "5s", "--restart-delay", "1s",
            "--with-registry-auth", "--no-resolve-image", registry.reference(lab, "haproxy")]


def stop_and_start(lab: Lab, name: str, base: str) -> None:
    """Stop it and start it again, which is how that of 2016 takes over a change."""
    before = until(lambda: _containers(lab, name), what=f"{name}'s container", timeout=30)
    nodes.manager(lab).docker("service", "update", "--quiet", "--detach", "--force", name)

    def replaced() -> None:
        now = _containers(lab, name)
        if not now or set(now) & set(before):
            raise NotYet("the old one is there yet" if now else "none runs")
        _maps_come(base)
    until(replaced, what=f"{name} to be started again", timeout=90, every=0.25)


def _maps_come(base: str) -> None:
    try:
        question.judge_png(httpx.get(question.map_url(base), timeout=5, trust_env=False))
    except (httpx.HTTPError, question.Failed) as error:
        raise NotYet(str(error)[-200:]) from None


def _held(lab: Lab) -> str:
    holding = vip.holder(lab)
    if holding is None:
        raise NotYet("nobody holds it")
    return holding


def _containers(lab: Lab, name: str, *more: str) -> list[str]:
    def ask(node: nodes.Node) -> list[str]:
        return node.docker("ps", "-q", "--no-trunc", *more, "--filter",
                           f"label=com.docker.swarm.service.name={name}").split()
    try:
        return [found for each in nodes.each(lab, ask) for found in each]
    except CommandFailed as error:
        raise NotYet(str(error)[-200:]) from None


def _remove(lab: Lab, name: str) -> None:
    """Take the service, its containers and its configuration away; safe to repeat."""
    manager = until(lambda: _manager(lab), what="a manager of the Swarm", timeout=60, every=1)
    manager.run(["docker", "service", "rm", name], check=False)

    def gone() -> None:  # a container holds on to the stack's network
        left = _containers(lab, name, "--all")
        if left:
            raise NotYet(f"{len(left)} containers")
        manager.run(["docker", "config", "rm", name], check=False)
        if name in manager.docker("config", "ls", "--format", "{{.Name}}").split():
            raise NotYet("its configuration")
    until(gone, what=f"{name} to be gone", timeout=90, every=0.5)


def _manager(lab: Lab) -> nodes.Node:
    try:
        return nodes.manager(lab)
    except nodes.NodeError as error:
        raise NotYet(str(error)) from None

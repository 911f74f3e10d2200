"""Virtual Pis: containers on this machine, each with its own Docker engine and sshd.

A Pi's disk is a volume, so it outlives its container, as an SD card outlives a power cut.
Everything carries the label `gislab.lab`, by which it is found again, and removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
from pathlib import Path

from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from . import engine, images
from .settings import Lab, Machine
from .shell import Local

LABEL = "gislab.lab"
GROUPS = Path("/sys/fs/cgroup/cpu")  # control groups of version 1

# What --privileged gives, where the machine may give it.
PRIVILEGED = {"privileged": True}
# Else the same without CAP_SYS_RESOURCE, which some cloud machines lack.
NARROW = {
    "cap_add": ["ALL"],
    "cap_drop": ["SYS_RESOURCE"],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "device_cgroup_rules": ["a *:* rwm"],
}


class VirtualError(RuntimeError):
    """The virtual Pis cannot be as asked; the text says what to do."""


def up(lab: Lab, authorized_key: str, say=print) -> None:
    """Have the network and every Pi's container there and running; repeats change nothing."""
    network(lab, say=say)
    _share_realtime(lab)
    for machine in lab.machines:
        _pi_up(lab, machine, authorized_key, say)


def down(lab: Lab, say=print) -> None:
    """Remove every container, volume and network of this lab, and prove that none is left."""
    client = engine.client()
    label = {"label": f"{LABEL}={lab.name}"}
    for container in client.containers.list(all=True, filters=label):
        container.remove(force=True, v=True)
        say(f"{container.name}: removed")
    for volume in client.volumes.list(filters=label):
        volume.remove(force=True)
    for net in client.networks.list(filters=label):
        net.remove()
    left = leftovers(lab)
    if left:
        raise VirtualError(f"not removed: {', '.join(left)}; run: gislab down once more")
    say(f"lab {lab.name}: no container, volume or network of it is left on this machine")


def leftovers(lab: Lab) -> list[str]:
    """Name every container, volume and network of this lab that this machine holds."""
    client = engine.client()
    label = {"label": f"{LABEL}={lab.name}"}
    return sorted(
        [f"container {c.name}" for c in client.containers.list(all=True, filters=label)]
        + [f"volume {v.name}" for v in client.volumes.list(filters=label)]
        + [f"network {n.name}" for n in client.networks.list(filters=label)])


def power(lab: Lab) -> dict[str, str]:
    """Say for each Pi whether its container is `running`, `exited` or `absent`."""
    return {m.name: getattr(_container(lab, m.name), "status", "absent") for m in lab.machines}


def power_cut(lab: Lab, name: str) -> None:
    """Kill everything in a Pi at once (SIGKILL); its disk stays."""
    container = _container(lab, name)
    if container is not None and container.status == "running":
        container.kill("SIGKILL")


def power_on(lab: Lab, name: str) -> None:
    """Start a Pi that had lost its power."""
    container = _container(lab, name)
    if container is None:
        raise VirtualError(f"{name} does not exist; run: gislab up")
    if container.status != "running":
        container.start()


def unplug(lab: Lab, name: str) -> None:
    """Take the carrier from a Pi's network: nothing in, nothing out, not even ARP."""
    _link(lab, name, "down")


def plug(lab: Lab, name: str) -> None:
    """Give a Pi's network its carrier back."""
    _link(lab, name, "up")


def network(lab: Lab, say=print):
    """Return the lab's bridge network, made if it is not there."""
    client = engine.client()
    for net in client.networks.list(names=[lab.name]):
        if net.name == lab.name and (net.attrs.get("Labels") or {}).get(LABEL) == lab.name:
            return net
    subnet_free(lab)
    try:
        net = client.networks.create(
            lab.name, driver="bridge", labels={LABEL: lab.name},
            # A name of its own: what an engine that was killed has left behind (the bridge, its
            # rules for iptables) then belongs to this network again, and masks none of its hosts.
            options={"com.docker.network.bridge.name": bridge(lab)},
            ipam=IPAMConfig(pool_configs=[IPAMPool(
                subnet=lab.subnet, gateway=str(lab.network.network_address + 1))]))
    except APIError as error:
        raise VirtualError(f"subnet {lab.subnet} cannot be had ({error.explanation}); take "
                           'another in lab.toml, e.g. subnet = "172.30.17.0/24"') from None
    say(f"network {lab.name}: made, {lab.subnet}")
    return net


def bridge(lab: Lab) -> str:
    """Return the name of the lab's bridge on this machine; a link's name has 15 characters."""
    name = f"br-{lab.name}"
    return name if len(name) <= 15 else f"br-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _share_realtime(lab: Lab) -> None:
    """Let the engine's containers have realtime, where its kernel shares that out among groups.

    Such a kernel (RT_GROUP_SCHED, control groups of version 1) gives the engine's group none, and
    the adverts of the VIP's holder would be late on a busy machine; images/pi/entrypoint.sh hands
    it down. Elsewhere there is no such file, and no need. Lasts until this machine is booted. An
    engine that refuses leaves Keepalived without, which then sends its adverts less often.
    """
    shares, given = Path("cpu.rt_runtime_us"), GROUPS / "docker" / "cpu.rt_runtime_us"
    if not (GROUPS / shares).exists() or (given.exists() and int(given.read_text()) > 0):
        return
    # not by ourselves: who may talk to the engine need not be root
    with contextlib.suppress(APIError):
        _help(lab, f"echo 900000 > /groups/docker/{shares} || true",
              volumes={str(GROUPS): {"bind": "/groups", "mode": "rw"}})


def _pi_up(lab: Lab, machine: Machine, authorized_key: str, say) -> None:
    name = machine.name
    image = images.tag(lab, "pi")
    wanted = hashlib.sha256(json.dumps([image, authorized_key, machine.address]).encode())
    container = _container(lab, name)
    if container is not None and container.labels.get("gislab.made") != wanted.hexdigest()[:12]:
        container.remove(force=True)  # its disk is a volume and stays
        container = None
    if container is not None and container.status == "running":
        return
    if container is not None:
        try:
            container.start()
            say(f"{name}: power is on again")
            return
        except APIError:  # e.g. its network was removed behind our back
            container.remove(force=True)
    _forget_host_key(lab, machine)
    for rights in (PRIVILEGED, NARROW):
        container = _create(lab, machine, image, authorized_key, wanted.hexdigest()[:12], rights)
        try:
            container.start()
        except APIError as error:
            container.remove(force=True)
            if rights is PRIVILEGED and "caps" in str(error.explanation):
                continue
            raise VirtualError(f"{name} does not start: {error.explanation}") from None
        how = "privileged" if rights is PRIVILEGED else "with every capability this machine has"
        say(f"{name}: made at {machine.address}, {how}")
        return


def _create(lab, machine, image, authorized_key, made, rights):
    client = engine.client()
    disk = _full(lab, f"{machine.name}-docker")
    client.volumes.create(disk, labels={LABEL: lab.name})
    api = client.api
    host = api.create_host_config(
        binds={disk: {"bind": "/var/lib/docker", "mode": "rw"}},
        tmpfs={"/run": "exec,mode=755", "/tmp": "exec,mode=1777"},
        network_mode=lab.name, **rights)
    if rights is NARROW:  # what the CLI calls systempaths=unconfined
        host.update(MaskedPaths=[], ReadonlyPaths=[])
    made_id = api.create_container(
        image, name=_full(lab, machine.name), hostname=machine.name, detach=True,
        environment={"AUTHORIZED_KEY": authorized_key},
        labels={LABEL: lab.name, "gislab.pi": machine.name, "gislab.made": made},
        volumes=["/var/lib/docker"],
        host_config=host,
        networking_config=api.create_networking_config(
            {lab.name: api.create_endpoint_config(ipv4_address=machine.address)}))
    return client.containers.get(made_id)


def _container(lab: Lab, name: str):
    try:
        return engine.client().containers.get(_full(lab, name))
    except NotFound:
        return None


def _link(lab: Lab, name: str, state: str) -> None:
    """Set the host's end of a Pi's cable up or down."""
    container = _container(lab, name)
    if container is None or container.status != "running":
        raise VirtualError(f"{name} has no power; run: gislab power-on {name}")
    code, index = container.exec_run(["cat", "/sys/class/net/eth0/iflink"])
    script = f"ip link set $(ip -o link | awk -F': |@' '$1 == {int(index)} {{print $2}}') {state}"
    _help(lab, script, network_mode="host", cap_add=["NET_ADMIN"])


def _help(lab: Lab, script: str, **rights) -> None:
    """Do something to this machine that only the engine may, in a short-lived container."""
    engine.client().containers.run(images.tag(lab, "pi"), ["bash", "-c", script], remove=True,
                                   **rights)


def _forget_host_key(lab: Lab, machine: Machine) -> None:
    """A new container has new host keys; the old ones must not raise an alarm."""
    hosts = lab.home / "known_hosts"
    if hosts.exists():
        Local().run(["ssh-keygen", "-q", "-R", machine.address, "-f", str(hosts)], check=False)


def subnet_free(lab: Lab) -> None:
    """Raise VirtualError where another network of this machine overlaps the lab's."""
    for line in Local().run(["ip", "-4", "-o", "addr"], check=False).out.splitlines():
        fields = line.split()
        if fields[1] == bridge(lab):
            continue
        taken = ipaddress.IPv4Interface(fields[3]).network
        if taken.overlaps(lab.network):
            raise VirtualError(
                f"subnet {lab.subnet} is in use on this machine ({fields[1]} has {fields[3]}); "
                'take another in lab.toml, e.g. subnet = "172.30.17.0/24"'
                + (f", or if an engine that is gone left it behind: ip link delete {fields[1]}"
                   if fields[1].startswith("br-") else ""))


def _full(lab: Lab, name: str) -> str:
    return f"{lab.name}-{name}"

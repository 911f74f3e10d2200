"""The lab's own image registry, on this machine's engine, from which the Pis pull.

It speaks TLS with a certificate made for the lab, and nobody reads or writes without the
lab's password.
"""

from __future__ import annotations

import socket

import bcrypt
import requests
from docker.errors import APIError, NotFound

from . import engine, images, nodes, virtual
from .certificate import selfsigned
from .settings import Lab
from .shell import archive
from .wait import NotYet, until

USER = "lab"


class RegistryError(RuntimeError):
    """The registry does not run, or a Pi cannot pull from it; the text says what to do."""


def address(lab: Lab) -> str:
    """Return host:port of the registry, as the Pis see it."""
    if lab.kind == "virtual":
        return f"{lab.network.network_address + 5}:{lab.registry_port}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((lab.machines[0].address, 9))  # sends nothing; picks our own address
        return f"{probe.getsockname()[0]}:{lab.registry_port}"


def reference(lab: Lab, name: str) -> str:
    """Return the full name under which the Pis pull the image `name`."""
    return f"{address(lab)}/{images.tag(lab, name)}"


def up(lab: Lab, say=print) -> None:
    """Have the registry running; its images stay in a volume."""
    client = engine.client()
    name = f"{lab.name}-registry"
    image = images.tag(lab, "registry")
    host = address(lab).split(":")[0]
    try:
        container = client.containers.get(name)
        if container.labels.get("gislab.made") != f"{image} {host}":
            container.remove(force=True)
            raise NotFound("made from another image")
        if container.status != "running":
            container.start()
            say("registry: running again")
    except NotFound:
        _create(lab, client, name, image, host)
        say(f"registry: made, {address(lab)}")
    until(lambda: _answers(lab, client, name), what="the registry", timeout=30)


def pause(lab: Lab) -> None:
    """Freeze the registry: it takes connections, and says nothing."""
    container = _container(lab)
    if container is None or container.status != "running":
        raise RegistryError("the registry does not run; run: gislab up")
    container.pause()


def unpause(lab: Lab) -> None:
    """Let a frozen registry go on; safe to repeat, and where nothing was frozen."""
    container = _container(lab)
    if container is not None and container.status == "paused":
        container.unpause()


def push(lab: Lab, say=print) -> None:
    """Push every image that the Pis need; what the registry has is not sent again."""
    client = engine.client(timeout=900)
    local = f"127.0.0.1:{_local_port(lab, client)}"
    login = {"username": USER, "password": lab.secret("registry_password")}
    for name in images.names(lab, where="pi"):
        tag = images.tag(lab, name)
        repository, version = tag.split(":")
        if _has(lab, local, repository, version):
            continue
        client.images.get(tag).tag(f"{local}/{repository}", version)
        for line in client.images.push(f"{local}/{repository}", version, auth_config=login,
                                       stream=True, decode=True):
            if "error" in line:
                raise RegistryError(f"{tag} was not pushed: {line['error']}")
        client.images.remove(f"{local}/{tag}")
        say(f"registry: has {tag}")


def trust(lab: Lab, node: nodes.Node) -> None:
    """Teach one Pi the registry's certificate and password; repeats change nothing."""
    where = address(lab)
    folder = f"/etc/docker/certs.d/{where}"
    node.run(["mkdir", "-p", folder])
    node.run(["tee", f"{folder}/ca.crt"], input=(_certificate(lab)[0]).read_bytes())
    node.docker("login", where, "--username", USER, "--password-stdin",
                input=lab.secret("registry_password"))


def pull(lab: Lab, say=print) -> None:
    """Have every Pi pull the images it lacks, all Pis at once."""
    def on(node: nodes.Node) -> None:
        trust(lab, node)
        for name in images.names(lab, where="pi"):
            image = reference(lab, name)
            if node.run(["docker", "image", "inspect", image], check=False).code:
                node.docker("pull", "-q", image, timeout=900)
                say(f"{node.name}: pulled {images.tag(lab, name)}")
    nodes.each(lab, on)


def _create(lab: Lab, client, name: str, image: str, host: str) -> None:
    volume = f"{name}-images"
    client.volumes.create(volume, labels={virtual.LABEL: lab.name})
    api = client.api
    outward = "127.0.0.1" if lab.kind == "virtual" else "0.0.0.0"
    port = None if lab.kind == "virtual" else lab.registry_port  # None: any that is free
    made = api.create_container(
        image, name=name, ports=[_inner_port(lab)],
        labels={virtual.LABEL: lab.name, "gislab.made": f"{image} {host}"},
        environment={"REGISTRY_HTTP_ADDR": f"0.0.0.0:{_inner_port(lab)}",
                     "REGISTRY_HTTP_TLS_CERTIFICATE": "/etc/registry/registry.crt",
                     "REGISTRY_HTTP_TLS_KEY": "/etc/registry/registry.key",
                     "REGISTRY_AUTH": "htpasswd",
                     "REGISTRY_AUTH_HTPASSWD_REALM": f"lab {lab.name}",
                     "REGISTRY_AUTH_HTPASSWD_PATH": "/etc/registry/htpasswd"},
        host_config=api.create_host_config(
            binds={volume: {"bind": "/var/lib/docker-registry", "mode": "rw"}},
            port_bindings={_inner_port(lab): (outward, port)},
            network_mode=lab.name if lab.kind == "virtual" else "bridge",
            restart_policy={"Name": "unless-stopped"}),
        networking_config=api.create_networking_config(
            {lab.name: api.create_endpoint_config(ipv4_address=host)})
        if lab.kind == "virtual" else None)
    certificate, key = _certificate(lab)
    hashed = bcrypt.hashpw(lab.secret("registry_password").encode(), bcrypt.gensalt(8))
    container = client.containers.get(made)
    container.put_archive("/etc", archive({
        "registry/registry.crt": certificate.read_bytes(),
        "registry/registry.key": key.read_bytes(),
        "registry/htpasswd": f"{USER}:".encode() + hashed + b"\n"}))
    try:
        container.start()
    except APIError as error:
        container.remove(force=True)
        raise RegistryError(f"the registry does not start: {error.explanation}; another port: "
                            "registry_port = 5001 in lab.toml") from None


def _certificate(lab: Lab):
    """Return the paths of the registry's own certificate and key, made once per address."""
    host = address(lab).split(":")[0]
    certificate, key = lab.home / f"registry-{host}.crt", lab.home / f"registry-{host}.key"
    selfsigned(certificate, key, subject=f"gislab registry {lab.name}",
               names=f"IP:{host},IP:127.0.0.1")
    return certificate, key


def _answers(lab: Lab, client, name: str) -> None:
    container = client.containers.get(name)
    if container.status in ("exited", "dead"):
        raise RegistryError("the registry stopped: "
                            + container.logs(tail=3).decode(errors="replace").strip())
    try:
        _get(lab, f"127.0.0.1:{_local_port(lab, client)}", "")
    except (requests.RequestException, KeyError, TypeError, IndexError):
        raise NotYet("no answer") from None


def _has(lab: Lab, local: str, repository: str, version: str) -> bool:
    return _get(lab, local, f"{repository}/manifests/{version}").status_code == 200


def _get(lab: Lab, local: str, path: str) -> requests.Response:
    return requests.get(
        f"https://{local}/v2/{path}", auth=(USER, lab.secret("registry_password")), timeout=10,
        verify=str(_certificate(lab)[0]),
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})


def _container(lab: Lab):
    try:
        return engine.client().containers.get(f"{lab.name}-registry")
    except NotFound:
        return None


def _local_port(lab: Lab, client) -> int:
    container = client.containers.get(f"{lab.name}-registry")
    return int(container.ports[f"{_inner_port(lab)}/tcp"][0]["HostPort"])


def _inner_port(lab: Lab) -> int:
    return lab.registry_port if lab.kind == "virtual" else 5000

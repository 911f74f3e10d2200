"""A bench for images: a network and secrets of its own, everything removed afterwards."""

from __future__ import annotations

import base64
import secrets
import uuid

import httpx
import psycopg
import pytest

from gislab.settings import MEMBERS
from gislab.wait import NotYet, until

from .serving import Serving

NAMES = ("postgres_password", "replication_password", "gis_password", "reader_password",
         "patroni_password")
READ_ONLY = {"read_only": True, "cap_drop": ["ALL"]}  # as the stack runs them


class Bench:
    """Containers on one network, each with a fixed address and the same secrets."""

    def __init__(self, client, image, folder):
        self.client, self.image, self.folder = client, image, folder
        self.secret = {name: secrets.token_hex(12) for name in NAMES}
        self.secret["consul_token"] = str(uuid.uuid4())
        self.secret["consul_gossip_key"] = base64.b64encode(secrets.token_bytes(32)).decode()
        for name, value in self.secret.items():
            (folder / name).write_text(value)
        folder.chmod(0o755)  # read in the containers by users of theirs
        self.network = client.networks.create(
            f"gislab-bench-{uuid.uuid4().hex[:8]}", driver="bridge")
        self.network.reload()
        subnet = self.network.attrs["IPAM"]["Config"][0]["Subnet"]
        self.prefix = subnet.rsplit(".", 1)[0]
        self.containers = {}

    def address(self, name: str) -> str:
        """Return the address that a container has now."""
        self.containers[name].reload()
        networks = self.containers[name].attrs["NetworkSettings"]["Networks"]
        return networks[self.network.name]["IPAddress"]

    def start(self, image: str, name: str, environment: dict, tmpfs: list[str],
              sysctls: dict | None = None):
        """Start a container as the stack would, under a DNS name.

        tmpfs : paths, each perhaps with options: `/tmp` or `/tmp:size=64m`.
        """
        files = {f"{variable}_FILE": f"/run/secrets/{secret}" for variable, secret in (
            ("CONSUL_HTTP_TOKEN", "consul_token"), ("CONSUL_GOSSIP_KEY", "consul_gossip_key"),
            *((s.upper(), s) for s in NAMES))}
        made = self.client.containers.create(
            self.image(image), hostname=name, name=f"{self.network.name}-{name}",
            environment=files | environment, tmpfs=dict(one.partition(":")[::2] for one in tmpfs),
            volumes={str(self.folder): {"bind": "/run/secrets", "mode": "ro"}},
            network=self.network.name, sysctls=sysctls, **READ_ONLY,
            networking_config={self.network.name:
                               self.client.api.create_endpoint_config(aliases=[name])})
        self.containers[name] = made
        made.start()
        return made

    def consul(self):
        """Start one Consul server, which is its own majority; return (address, headers)."""
        if "consul" not in self.containers:
            # its address has to be known before it is up: the first free one on an empty network
            self.start("consul", "consul", {
                "NODE_NAME": "pi1", "NODES": f"pi1={self.prefix}.2"}, ["/run/consul"])
        url = f"http://{self.address('consul')}:8500"
        headers = {"X-Consul-Token": self.secret["consul_token"]}
        until(lambda: _answers(f"{url}/v1/health/node/pi1", headers), what="Consul", timeout=30)
        return url, headers

    def database(self, *tmpfs: str) -> list[str]:
        """Start three members on one Consul; return their names when all are in their roles.

        tmpfs : more of them than /run/postgresql and /tmp, e.g. a small disk for the data.
        """
        self.consul()
        for member in MEMBERS:
            if member not in self.containers:
                self.start("postgis", member, {
                    "MEMBER": member, "SCOPE": "bench", "NODE_NAME": "pi1",
                    "NODES": f"pi1={self.address('consul')}"},
                    ["/run/postgresql", "/tmp", *tmpfs])
        self.streaming(len(MEMBERS) - 1)
        return list(MEMBERS)

    def cluster(self) -> list[dict]:
        """Return what Patroni says of the members, asked of any that answers."""
        for name in MEMBERS:
            try:
                return httpx.get(f"http://{self.address(name)}:8008/cluster",
                                 timeout=2).raise_for_status().json()["members"]
            except httpx.HTTPError:
                continue
        raise NotYet("no Patroni answers")

    def streaming(self, replicas: int) -> str:
        """Wait for a primary with so many synchronous replicas; return the primary's name."""
        def ask():
            members = self.cluster()
            leader = [m["name"] for m in members if m["role"] == "leader"]
            behind = [m for m in members
                      if m["role"] == "quorum_standby" and m["state"] == "streaming"]
            if len(leader) != 1 or len(behind) != replicas:
                raise NotYet(", ".join(f"{m['name']} {m['role']} {m['state']}" for m in members))
            return leader[0]
        return until(ask, what=f"a primary and {replicas} replicas", timeout=120)

    def connect(self, name: str, role: str = "gis", **options) -> psycopg.Connection:
        """Connect to the database in a container."""
        options = {"password": self.secret.get(f"{role}_password"), "dbname": "gis",
                   "connect_timeout": 3, "autocommit": True} | options
        return psycopg.connect(host=self.address(name), user=role, **options)

    def close(self) -> None:
        for container in self.containers.values():
            container.remove(force=True, v=True)
        self.network.remove()


def _answers(url: str, headers: dict) -> None:
    try:
        answer = httpx.get(url, headers=headers, timeout=2)
    except httpx.TransportError as error:
        raise NotYet(str(error)) from None
    if answer.status_code != 200 or not answer.json():
        raise NotYet(f"{answer.status_code} {answer.text[:60]}")


@pytest.fixture(scope="module")
def bench(the_engine, image, tmp_path_factory):
    made = Bench(the_engine, image, tmp_path_factory.mktemp("secrets"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def serving(the_engine, image, tmp_path_factory):
    """A small database and what serves it."""
    made = Serving(the_engine, image, tmp_path_factory.mktemp("secrets"))
    yield made
    made.close()


@pytest.fixture
def run(the_engine, image):
    """Run a command in a fresh container of an image; return (exit code, what it said)."""
    def go(name: str, *command: str, environment: dict | None = None, **options):
        made = the_engine.containers.run(image(name), list(command), detach=True,
                                         environment=environment or {}, **options)
        try:
            return made.wait(timeout=60)["StatusCode"], made.logs().decode()
        finally:
            made.remove(force=True, v=True)  # v: an image's VOLUME would stay behind
    return go


@pytest.fixture
def names_what_is_missing(run):
    """Assert that an image does not start without a variable, and names it with an example."""
    def look(name: str, *command: str, missing: str, of: dict | None = None) -> None:
        rest = {variable: value for variable, value in (of or {}).items() if variable != missing}
        code, said = run(name, *command, environment=rest)
        assert code != 0
        assert missing in said
        assert "e.g." in said
    return look


@pytest.fixture
def holds_no_secret(the_engine, image, run):
    """Say what looks like a secret in an image: private keys, password files, variables."""
    def look(name: str) -> list[str]:
        config = the_engine.images.get(image(name)).attrs["Config"]
        variables = [v for v in config["Env"] or [] if any(
            word in v.split("=")[0] for word in ("PASSWORD", "TOKEN", "SECRET", "KEY"))]
        script = (r"find / -xdev \( -path /proc -o -path /sys -o -path /usr/share \) -prune -o "
                  r"-type f \( -name '*.key' -o -name '.pgpass' -o -name 'pool_passwd' "
                  r"-o -name '*_password' -o -name 'id_*' -o -name 'ssh_host_*_key' \) "
                  r"-size +0 -print 2>/dev/null; "
                  r"grep -rlsE '^-----BEGIN [A-Z ]*PRIVATE KEY' /etc /root /var/lib 2>/dev/null; "
                  "true")
        found = run(name, "-c", script, entrypoint="bash", user="root")[1]
        return variables + found.split()
    return look

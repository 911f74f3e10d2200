"""A small database, a Consul and what asks a map server, for tests of the serving images."""

from __future__ import annotations

import concurrent.futures
import io
import ipaddress
import time
import uuid
from dataclasses import replace

import httpx
import matplotlib.image
import psycopg
import pytest

from gislab import catalog, consul, settings
from gislab.shell import archive
from gislab.wait import NotYet, until

POSTGRES = """set -e; initdb -D /tmp/pg -A scram-sha-256 --pwfile=/run/secrets/postgres_password \
> /dev/null; echo 'host all all all scram-sha-256' >> /tmp/pg/pg_hba.conf; \
exec postgres -D /tmp/pg -p 5434 -c listen_addresses='*' -c unix_socket_directories=/tmp"""
LAND = """set role gis;
create table countries (id int primary key, name text, geom geometry(Polygon, 4326));
insert into countries values (1, 'Box', ST_MakeEnvelope(-20, -20, 20, 20, 4326));"""
WFS = {"service": "WFS", "version": "2.0.0", "request": "GetFeature",
       "outputFormat": "application/json"}
WMS = {"service": "WMS", "version": "1.3.0", "request": "GetMap", "styles": "", "crs": "CRS:84",
       "bbox": "-40,-20,40,20", "width": "200", "height": "100", "format": "image/png"}


PROXY = (settings.PROJECT / "stack" / "haproxy.cfg").read_bytes()


class Serving:
    """One plain database, one Consul and map servers, on a network of their own.

    `lab` is a lab whose VIP is the database, and whose one living Pi is the Consul: what knows
    addresses only works on it as on any other.
    """

    def __init__(self, client, image, folder, kind: str = "mapserver"):
        self.client, self.image, self.folder = client, image, folder
        self.network = client.networks.create(f"gislab-serving-{uuid.uuid4().hex[:8]}")
        self.network.reload()
        subnet = self.network.attrs["IPAM"]["Config"][0]["Subnet"]
        first = ipaddress.IPv4Network(subnet).network_address
        self.containers = []
        self.lab = settings.make({
            "name": folder.name[:20].rstrip("-").replace("_", "-"), "subnet": subnet,
            "vip": str(first + 3), "map_server": kind,
            # only the first one is there
            "machines": [{"name": f"pi{i}", "address": str(first + (2 if i == 7 else 200 + i))}
                         for i in (7, 8, 9)],
            "ports": {"primary": 5434, "replicas": 5439}})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GISLAB_HOME", str(folder / "home"))
            assert self.lab.home.is_relative_to(folder)
        self.secret = {name: self.lab.secret(name) for name in settings.SECRETS}
        for name, value in self.secret.items():
            (folder / name).write_text(value)
        folder.chmod(0o755)
        # the first two addresses of an empty network, as the lab says
        self.consul = self.run("consul", "consul", environment={
            "NODE_NAME": "pi7", "NODES": f"pi7={first + 2}",
            "CONSUL_HTTP_TOKEN_FILE": "/run/secrets/consul_token",
            "CONSUL_GOSSIP_KEY_FILE": "/run/secrets/consul_gossip_key"})
        self.database = self.run("postgis", "database", ["bash", "-c", POSTGRES])
        assert self.address(self.consul) == self.lab.machines[0].address
        assert self.address(self.database) == self.lab.vip
        until(self._bootstrap, what="the database", timeout=60)

    def publish(self, cat: catalog.Catalog | None = None) -> None:
        """Have a catalog current, whether its tables are there or not."""
        catalog.allow(self.lab, say=lambda text: None)
        catalog.put(self.lab, cat or catalog.default(), say=lambda text: None)

    def store(self) -> consul.Consul:
        return consul.of(self.lab)

    def run(self, image: str, alias: str, command=None, *, environment=None, files=None,
            start=True, **options):
        """Start a container as the stack would; `files` are put into it first."""
        made = self.client.api.create_container(
            self.image(image), command, environment=environment or {},
            volumes=["/run/secrets"], host_config=self.client.api.create_host_config(
                binds={str(self.folder): {"bind": "/run/secrets", "mode": "ro"}}, **options),
            networking_config=self.client.api.create_networking_config({
                self.network.name: self.client.api.create_endpoint_config(aliases=[alias])}))
        container = self.client.containers.get(made["Id"])
        self.containers.append(container)
        for path, data in (files or {}).items():
            folder, _, name = path.rpartition("/")
            container.put_archive(folder, archive({name: data}))
        container.start()
        return container

    def map_server(self, kind: str, alias: str = "map-server", cat=None, *, publish=True,
                   **options):
        """Start a map server as the stack would; by default its catalog is there already."""
        if publish:
            self.publish(cat)
        return self.run(kind, alias, environment={
            "VIP": "database", "PORT_REPLICAS": "5434", "PORT_PRIMARY": "5434",
            "NODE_NAME": "pi7",
            "NODES": settings.peers(self.lab), **options.pop("environment", {})},
            cap_drop=["ALL"], read_only=True, mem_limit="768m",
            tmpfs={"/run/gislab": "", "/tmp": "", "/var/cache/gislab": "size=128m"}, **options)

    def behind(self, alias: str) -> settings.Lab:
        """Start the stack's HAProxy before one map server; return a lab whose VIP it is.

        Only so do clients come back to that server by the addresses in its capabilities.
        """
        proxy = self.run("haproxy", f"before-{alias}", environment={"NODE_NAME": "pi1"}, files={
            "/etc/haproxy/haproxy.cfg": PROXY.replace(b"tasks.mapserver", alias.encode())},
            cap_drop=["ALL"])
        lab = replace(self.lab, vip=self.address(proxy),
                      ports=replace(self.lab.ports, maps=8080))
        lab.__dict__["home"] = self.lab.home  # the same passwords
        return lab

    def address(self, container) -> str:
        container.reload()
        return container.attrs["NetworkSettings"]["Networks"][self.network.name]["IPAddress"]

    def healthy(self, container, timeout: float = 400) -> str:
        """Wait until /health says 200; return the server's address."""
        def ask():
            code = health(url)
            if code != 200:
                raise NotYet(f"/health says {code}: "
                             + container.logs(tail=3).decode(errors="replace")[-300:])
        url = f"http://{self.address(container)}:8080"
        until(ask, what="a healthy map server", timeout=timeout, every=0.3)
        return url

    def connect(self, dbname: str = "gis") -> psycopg.Connection:
        return psycopg.connect(
            host=self.address(self.database), port=5434, user="postgres", dbname=dbname,
            password=self.secret["postgres_password"], autocommit=True, connect_timeout=3)

    def _bootstrap(self) -> None:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError as error:
            raise NotYet(str(error)) from None
        # as Patroni does it, from the image's own script
        code, said = self.database.exec_run(
            ["psql", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", "5434", "-U", "postgres",
             "-f", "/etc/patroni/bootstrap.sql"],
            environment={"PGPASSWORD": self.secret["postgres_password"], "DATABASE": "gis",
                         "GIS_PASSWORD": self.secret["gis_password"],
                         "READER_PASSWORD": self.secret["reader_password"]})
        assert code == 0, said.decode()
        with self.connect() as connection:
            connection.execute(LAND)

    def close(self) -> None:
        for container in self.containers:
            container.remove(force=True, v=True)
        self.network.remove()


def health(url: str) -> int:
    """Return what /health says; 0 when nobody answers."""
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code
    except httpx.TransportError:
        return 0


def features(url: str, layer: str) -> httpx.Response:
    return httpx.get(f"{url}/ows", params=WFS | {"typeNames": layer}, timeout=20)


def picture(url: str, layers: str) -> httpx.Response:
    return httpx.get(f"{url}/ows", params=WMS | {"layers": layers}, timeout=20)


def through(lab: settings.Lab) -> None:
    """Wait until a map comes through a lab's HAProxy."""
    def ask():
        if not is_png(picture(lab.maps_url, "alive")):
            raise NotYet("no map")
    until(ask, what="a map through HAProxy", timeout=60)


def is_png(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.content.startswith(b"\x89PNG") \
        and answer.content.endswith(b"IEND\xaeB`\x82")


def broken(serving: Serving, table: str, ask) -> httpx.Response:
    """Return what `ask` gets when the database ends its session in the middle of its query."""
    with serving.connect() as lock, serving.connect() as other, \
            concurrent.futures.ThreadPoolExecutor(1) as thread:
        with lock.transaction():
            lock.execute(f"lock table {table} in access exclusive mode")
            answer = thread.submit(ask)
            until(lambda: _end(other), what="a query that waits", timeout=10, every=0.02)
        return answer.result(timeout=20)


def _end(connection) -> None:
    ended = connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where application_name = 'mapserver' and wait_event_type = 'Lock'").fetchall()
    if not ended:
        raise NotYet("none waits")


def drains(serving: Serving, container) -> None:
    """Assert: on SIGTERM /health turns to no first, maps are served on, then the end is 0."""
    url = serving.healthy(container)
    container.kill("SIGTERM")
    asked = time.monotonic()
    until(lambda: _says_no(url), what="/health to say no", timeout=1, every=0.02)
    served = 0
    while time.monotonic() - asked < 1.2:
        assert is_png(picture(url, "alive"))
        served += 1
    assert served > 0
    assert container.wait(timeout=20)["StatusCode"] == 0


def _says_no(url: str) -> None:
    if health(url) == 200:
        raise NotYet("still 200")


def pixel(answer: httpx.Response) -> list[int]:
    """Return the colour in the middle of a picture: red, green, blue, 0 to 255."""
    shown = matplotlib.image.imread(io.BytesIO(answer.content))
    middle = shown[shown.shape[0] // 2, shown.shape[1] // 2]
    return [round(float(part) * 255) for part in middle[:3]]

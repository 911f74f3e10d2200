"""A small database and what asks a map server, for the tests of the serving images."""

from __future__ import annotations

import time
import uuid

import httpx
import psycopg

from gislab import catalog, settings
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


class Serving:
    """One plain database and map servers that read it, on a network of their own."""

    def __init__(self, client, image, folder):
        self.client, self.image, self.folder = client, image, folder
        self.network = client.networks.create(f"gislab-serving-{uuid.uuid4().hex[:8]}")
        self.containers = []
        self.secret = {name: uuid.uuid4().hex for name in (
            "postgres_password", "gis_password", "reader_password", "geoserver_password",
            "haproxy_password")}
        for name, value in self.secret.items():
            (folder / name).write_text(value)
        folder.chmod(0o755)
        self.database = self.run("postgis", "database", ["bash", "-c", POSTGRES])
        until(self._bootstrap, what="the database", timeout=60)

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

    def map_server(self, kind: str, alias: str = "map-server", cat=None, **options):
        """Start a map server with a catalog; return its container."""
        lab = settings.make({"map_server": kind})
        bundle = catalog.render(cat or catalog.default(), lab)
        return self.run(kind, alias, environment={
            "VIP": "database", "PORT_REPLICAS": "5434", "NODE_NAME": "pi7",
            **options.pop("environment", {})},
            files={"/etc/gislab/catalog.tar": bundle}, cap_drop=["ALL"], mem_limit="768m",
            **options)

    def address(self, container) -> str:
        container.reload()
        return container.attrs["NetworkSettings"]["Networks"][self.network.name]["IPAddress"]

    def healthy(self, container, timeout: float = 120) -> str:
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


def is_png(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.content.startswith(b"\x89PNG") \
        and answer.content.endswith(b"IEND\xaeB`\x82")


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

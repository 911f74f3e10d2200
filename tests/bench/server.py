"""One plain PostGIS server of the lab's image: PostgreSQL's own defaults, one container."""

from __future__ import annotations

import dataclasses
import uuid

import psycopg

from gislab import database, settings
from gislab.settings import Lab, Ports
from gislab.wait import NotYet, until

_START = """
set -e
data=/var/lib/postgresql/17
if [ ! -s $data/PG_VERSION ]; then
  initdb -D $data --locale=C.UTF-8 --encoding=UTF8 --auth-host=scram-sha-256 --auth-local=peer \
    --data-checksums >/dev/null
  echo 'host all all all scram-sha-256' >> $data/pg_hba.conf
  pg_ctl -D $data -w -o '-c listen_addresses=' start >/dev/null
  psql -Xq -v ON_ERROR_STOP=1 -d postgres -f /etc/patroni/bootstrap.sql
  psql -Xqc "ALTER ROLE postgres PASSWORD '$POSTGRES_PASSWORD'" -d postgres
  pg_ctl -D $data -w stop >/dev/null
fi
exec postgres -D $data -c 'listen_addresses=*'
"""


class Server:
    """A container in `with`; `lab` is a Lab whose VIP and port of the primary lead to it."""

    def __init__(self, client, image: str):
        name = f"gislab-server-{uuid.uuid4().hex[:8]}"
        plain = settings.make({"name": name[:21]})
        secrets = {role: plain.secret(f"{role}_password") for role in database.ROLES}
        self.container = client.containers.run(
            image, ["bash", "-c", _START], name=name, detach=True, shm_size="256m",
            environment={"DATABASE": database.NAME, "GIS_PASSWORD": secrets["gis"],
                         "READER_PASSWORD": secrets["reader"],
                         "POSTGRES_PASSWORD": secrets["postgres"]})
        self.lab = dataclasses.replace(
            plain, vip=self._address(), ports=Ports(sql=6432, primary=5432))

    def _address(self) -> str:
        def ask() -> str:
            self.container.reload()
            if self.container.status == "exited":
                raise RuntimeError(self.container.logs(tail=20).decode())
            networks = self.container.attrs["NetworkSettings"]["Networks"].values()
            found = [n["IPAddress"] for n in networks if n["IPAddress"]]
            if not found:
                raise NotYet("no address")
            return found[0]
        return until(ask, what="the server's address", timeout=30)

    def ready(self) -> Lab:
        """Wait until it answers, and return its lab."""
        def ask() -> None:
            self.lab = dataclasses.replace(self.lab, vip=self._address())
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                raise NotYet(str(error).splitlines()[0]) from None
        until(ask, what="the server", timeout=90)
        return self.lab

    def connect(self, role: str = "postgres", **options) -> psycopg.Connection:
        """Connect as one of the roles, committing each statement."""
        return database.connect(self.lab, role, port=self.lab.ports.primary, autocommit=True,
                                **options)

    def __enter__(self) -> Server:
        self.ready()
        return self

    def __exit__(self, *_) -> None:
        self.container.remove(force=True, v=True)
        for file in sorted(self.lab.home.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        self.lab.home.rmdir()


__all__ = ["Lab", "Server"]

"""The way into the database: SQL at the VIP, whoever is primary. Knows an address, no Pi."""

from __future__ import annotations

import psycopg

from .settings import Lab

NAME = "gis"
ROLES = ("gis", "reader", "postgres")


def connect(lab: Lab, role: str = "gis", port: int | None = None, **options) -> psycopg.Connection:
    """Open a connection through the VIP; in `with`, it commits at the end and closes.

    Parameters
    ----------
    role : `gis` owns the data and writes, `reader` only reads, `postgres` may do everything.
    port : one of lab.ports. By default `sql`, through Pgpool-II; `primary` for what needs one
        server (COPY, SET, temporary tables); `replicas` to read from any replica.
    options : more parameters of libpq (PostgreSQL manual, 32.1.2), or psycopg's autocommit.

    Raises
    ------
    psycopg.OperationalError : nobody answers there within 4 seconds.
    """
    if role not in ROLES:
        raise ValueError(f"no role {role!r}; there are " + ", ".join(ROLES))
    return psycopg.connect(**{
        "host": lab.vip, "port": port or lab.ports.sql, "dbname": NAME, "user": role,
        "password": lab.secret(f"{role}_password"), "application_name": "gislab",
        "connect_timeout": 4, "gssencmode": "disable",
        # A Pi that loses its power says nothing: without these a client would wait for hours.
        "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
        "tcp_user_timeout": 15_000, **options})


def first_line(error: psycopg.Error) -> str:
    """Return what an error says in short; libpq explains itself on more lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def url(lab: Lab, role: str = "gis", port: int | None = None) -> str:
    """Return the address for psql and others, without the password: it would be shown."""
    return f"postgresql://{role}@{lab.vip}:{port or lab.ports.sql}/{NAME}"

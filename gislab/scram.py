"""How dear a log-in is: the iterations behind the passwords of the roles that clients use.

Whoever logs in by SCRAM-SHA-256 derives a key from the password, in so many rounds of HMAC as the
server keeps with the role (RFC 5802, section 3). The rounds keep off whoever tries out passwords
that people choose, and RFC 7677 asks for 4096 of them. Those of a lab are random, of more than
128 bits, which nobody tries out at any number of rounds. But each map that MapServer draws is a
log-in, each new session of Pgpool two, and a failover has all of them log in again, just when the
successor needs the processors most.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import psycopg
from psycopg import sql

from .database import connect, first_line
from .settings import Lab
from .wait import NotYet

ROLES = ("gis", "reader")
# GeoServer keeps its connections; and pgjdbc before 42.7.4, which older ones bring along, takes
# no fewer than 4096 (ongres/scram, issue 20)
ITERATIONS = {"mapserver": 1, "geoserver": 4096}
SALT = 16  # bytes, as PostgreSQL has it


def apply(lab: Lab, say=print) -> bool:
    """Have both roles log in at the price that the lab's map server takes; tell if it was another.

    The passwords stay as they are, and so do the sessions that are open. `postgres` and
    `replicator` log in seldom, and keep PostgreSQL's number.

    Raises
    ------
    NotYet : the database does not answer, or takes no writes.
    """
    wanted = ITERATIONS[lab.serves]
    try:
        with connect(lab, "postgres", port=lab.ports.primary) as connection:
            held = dict(connection.execute("select rolname, rolpassword from pg_authid "
                                           "where rolname = any(%s)", [list(ROLES)]))
            others = [role for role in ROLES if not held[role].startswith(_head(wanted))]
            for role in others:
                connection.execute(sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), secret(lab.secret(f"{role}_password"), wanted)))
    except psycopg.Error as error:
        raise NotYet(f"the price of log-ins: {first_line(error)}") from None
    if others:
        say(f"database: {', '.join(others)} log in with SCRAM iterations: {wanted}")
    return bool(others)


def secret(password: str, iterations: int, salt: bytes | None = None) -> str:
    """Return what PostgreSQL keeps of a password: the server can check it, and not tell it.

    The form is the one that PostgreSQL's manual tells of pg_authid, after RFC 5803.

    Parameters
    ----------
    password : printable ASCII, as the lab's are; others would need SASLprep (RFC 4013) first.
    salt : random by default.
    """
    salt = os.urandom(SALT) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"{_head(iterations)}{text[0]}${text[1]}:{text[2]}"


def _head(iterations: int) -> str:
    return f"SCRAM-SHA-256${iterations}:"

"""A log-in costs what the lab's parts take, and lets in nobody else."""

import base64
import dataclasses
import hashlib
import hmac

import psycopg
import pytest

from gislab import cluster, scram
from gislab.database import connect
from gislab.wait import NotYet

# RFC 7677, section 3: the whole exchange of the user "user" with the password "pencil".
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
MESSAGE = (b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
           b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
           b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_secret_accepts_the_proof_of_the_rfc_and_signs_as_its_server_does():
    text = scram.secret("pencil", 4096, base64.b64decode(SALT))
    head, _, keys = text.rpartition("$")
    assert head == f"SCRAM-SHA-256$4096:{SALT}"
    stored, server = map(base64.b64decode, keys.split(":"))
    signed = hmac.digest(stored, MESSAGE, "sha256")
    proved = bytes(a ^ b for a, b in zip(base64.b64decode(PROOF), signed, strict=True))
    assert hashlib.sha256(proved).digest() == stored
    assert base64.b64encode(hmac.digest(server, MESSAGE, "sha256")).decode() == SIGNATURE


def test_no_two_secrets_are_the_same_and_none_holds_the_password():
    one, other = scram.secret("a-password", 1), scram.secret("a-password", 1)
    assert one != other and "a-password" not in one


@pytest.mark.parametrize("server, outdated, early", [
    ("geoserver", True, True), ("geoserver", False, False), ("mapserver", True, False)])
def test_a_geoserver_can_log_in_as_long_as_there_is_one(
        paper, monkeypatch, server, outdated, early):
    """Before it comes and until it has gone; where no database answers yet, once all is ready."""
    done = []

    def absent_at_first(lab, say):
        done.append("log-ins")
        if "ready" not in done:
            raise NotYet("no server")
    monkeypatch.setattr(cluster.stack, "outdated", lambda lab: outdated)
    monkeypatch.setattr(cluster.scram, "apply", absent_at_first)
    for module, name in ((cluster.handover, "roll_out"), (cluster.stack, "deploy"),
                         (cluster.catalog, "allow"), (cluster, "ready"),
                         (cluster.durability, "apply")):
        monkeypatch.setattr(module, name, lambda lab, name=name, **how: done.append(name))
    cluster.serve(dataclasses.replace(paper, map_server=server))
    assert done == ["log-ins"] * early + ["roll_out"] * outdated + [
        "deploy", "allow", "ready", "apply", "log-ins"]


def test_a_database_that_does_not_answer_is_asked_again(paper, monkeypatch):
    def connect(*_, **__):
        raise psycopg.OperationalError("connection failed: no server\nmore")
    monkeypatch.setattr(scram, "connect", connect)
    with pytest.raises(NotYet, match="connection failed: no server$"):
        scram.apply(paper)


def iterations(lab):
    """Return role -> iterations, of all that log in with a password."""
    with connect(lab, "postgres", port=lab.ports.primary) as connection:
        return dict(connection.execute(
            "select rolname, substring(rolpassword from '^SCRAM-SHA-256[$](\\d+):')::int "
            "from pg_authid where rolcanlogin"))


@pytest.mark.live
def test_the_roles_of_a_lab_log_in_as_its_map_server_can(lab):
    """Changed there and back: nobody is shut out, no session ends, and a second call is none."""
    cluster.ready(lab)
    kinds = {"mapserver": 1, "geoserver": 4096}
    (other, number), = (kind for kind in kinds.items() if kind[0] != lab.serves)
    as_it_is, otherwise = (dict.fromkeys(scram.ROLES, n) for n in (kinds[lab.serves], number))
    rare = {"postgres": 4096, "replicator": 4096}
    assert iterations(lab) == as_it_is | rare
    lines, other = [], dataclasses.replace(lab, map_server=other)
    with connect(lab) as open_before:
        try:
            assert scram.apply(other, say=lines.append)
            assert not scram.apply(other, say=lines.append) and len(lines) == 1
            assert iterations(lab) == otherwise | rare
            enter(lab)
        finally:
            scram.apply(lab, say=lines.append)
        assert open_before.execute("select 1").fetchone() == (1,)
    assert iterations(lab) == as_it_is | rare and len(lines) == 2
    enter(lab)


def enter(lab):
    """Both roles come in by every door, and with another password by none."""
    for role in scram.ROLES:
        for port in (lab.ports.sql, lab.ports.primary, lab.ports.replicas):
            connect(lab, role, port=port).close()
            with pytest.raises(psycopg.OperationalError, match="authentication|password"):
                connect(lab, role, port=port, password="guessed")

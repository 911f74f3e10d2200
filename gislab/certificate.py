"""Certificates that are made for one lab, and trusted by nobody else."""

from __future__ import annotations

from pathlib import Path

from .settings import MEMBERS, Lab
from .shell import Local

MAPS = "maps_certificate"  # the Swarm's secret; HAProxy shows it to those who come by https
IDENTITY = "backup_identity"  # the Swarm's secret; a member of the database is who holds it


def selfsigned(certificate: Path, key: Path, *, subject: str, names: str) -> None:
    """Make a key and a certificate that vouches for itself, unless they are there.

    Parameters
    ----------
    subject : the common name. names : what the certificate is good for, e.g. `DNS:postgis1`.
    """
    if certificate.exists():
        return
    Local().run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650",
                 "-subj", f"/CN={subject}", "-addext", f"subjectAltName={names}",
                 "-keyout", str(key), "-out", str(certificate)])
    key.chmod(0o600)


def maps(lab: Lab) -> str:
    """Return the certificate of the VIP with its key, in one PEM text.

    The certificate alone lies beside it, as `maps.crt`: whoever has that one can trust the lab,
    e.g. `curl --cacert`.
    """
    path, certificate = lab.home / "id_maps", lab.home / "maps.crt"
    if not path.exists():
        certificate.unlink(missing_ok=True)  # half of what was begun
        key = path.with_suffix(".key")
        selfsigned(certificate, key, subject=f"gislab {lab.name}", names=f"IP:{lab.vip}")
        key.write_text(key.read_text() + certificate.read_text())
        key.rename(path)
    return path.read_text()


def identity(lab: Lab) -> str:
    """Return key and certificate by which database members know each other, in one PEM text.

    The common name is the one that images/postgis/pgbackrest.conf lets in.
    """
    path = lab.home / "id_backup"  # beside the SSH key: reports look for the lines of both
    if not path.exists():
        key, certificate = path.with_suffix(".key"), path.with_suffix(".crt")
        selfsigned(certificate, key, subject="gislab",
                   names=",".join(f"DNS:{name}" for name in MEMBERS))
        # one file in one move: half of it would never be mended
        key.write_text(key.read_text() + certificate.read_text())
        key.rename(path)
        certificate.unlink()
    return path.read_text()

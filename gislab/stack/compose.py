"""What Swarm is given: a stack file, what belongs to it, and what ${...} in it stands for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .. import nodes, registry, settings
from ..settings import PROJECT, Lab
from ..shell import archive
from .named import DATABASE, NAME

FILE = "gis.yml"
FOLDER = PROJECT / "stack"
ON_PI = "/opt/gislab/stack"  # where a Pi keeps its copy of FOLDER


def wanted(lab: Lab, file: str = FILE, more: dict[str, bytes] | None = None
            ) -> tuple[dict[str, bytes], dict[str, str], str]:
    """Return a stack's files, what ${...} in them stands for, and the fingerprint of both."""
    given = {**files(file), **(more or {})}
    meant = environment(lab, given)
    return given, meant, digest(json.dumps(meant, sort_keys=True).encode() + given[file])


def send(lab: Lab, file: str, files: dict[str, bytes], environment: dict[str, str],
          *how: str) -> None:
    """Hand a stack file and what belongs to it to a manager, and have it deployed."""
    manager = nodes.manager(lab)
    nodes.each(lab, lambda node: registry.trust(lab, node))
    manager.run(["sh", "-c", f"mkdir -p {ON_PI} && tar -x -C {ON_PI}"], input=archive(files))
    words = [f"{key}={value}" for key, value in environment.items()]
    manager.run(["env", "-C", ON_PI, *words, "docker", "stack", "deploy", "--compose-file", file,
                 "--with-registry-auth", *how, "--resolve-image", "never", NAME], timeout=120)


def files(file: str) -> dict[str, bytes]:
    """Return a stack file and what belongs to it: 2016-... to 2016.yml, the rest to gis.yml."""
    others = tuple(p.stem for p in FOLDER.glob("*.yml") if p.name != FILE)
    own = Path(file).stem
    return {p.name: p.read_bytes() for p in sorted(FOLDER.iterdir()) if p.is_file() and (
        not p.name.startswith(others) if file == FILE else p.name.startswith(own))}


def environment(lab: Lab, files: dict[str, bytes]) -> dict[str, str]:
    """Return what ${...} in the stack file stands for."""
    images = {f"IMAGE_{name.upper()}": registry.reference(lab, name)
              for name in ("consul", "postgis", "pgpool", "haproxy", "keepalived")}
    hashes = {"HASH_" + name.upper().replace(".", "_").replace("-", "_"): digest(data)
              for name, data in files.items() if not name.endswith(".yml")}
    return {
        **images, **hashes,
        "IMAGE_MAPSERVER": registry.reference(lab, lab.serves),
        "MAP_SERVER": lab.serves,
        # the secret by which layers are written to, only for the server that can
        "MAP_WRITER": "gis_password" if lab.serves == "geoserver" else "reader_password",
        "GEOSERVER_CONSOLE": "on" if lab.console and lab.serves == "geoserver" else "off",
        # how long Swarm leaves a new map server alone before it replaces the next one
        "MAP_UPDATE_DELAY": "20s" if lab.serves == "geoserver" else "5s",
        "LAB": lab.name,
        "DATABASE": DATABASE,
        "VIP": lab.vip,
        "SUBNET": lab.subnet,
        "NODES": settings.peers(lab),
        "PORT_MAPS": str(lab.ports.maps),
        "PORT_HTTPS": str(lab.ports.https),
        "PORT_SQL": str(lab.ports.sql),
        "PORT_PRIMARY": str(lab.ports.primary),
        "PORT_REPLICAS": str(lab.ports.replicas),
        "PORT_STATS": str(lab.ports.stats),
    }


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]

"""What becomes of writes when one member of the database is left: refused, or on one Pi alone.

`durability = "strict"` in lab.toml: they end at once with PostgreSQL's own error, SQLSTATE 25006,
`cannot execute INSERT in a read-only transaction` (see images/postgis/guard.sh). "available":
they go on, and `gislab status` says so.
"""

from __future__ import annotations

import json

import pandas as pd

from .members import containers, members
from .settings import Lab
from .shell import CommandFailed
from .wait import NotYet

_CONFIG = ("exec 3<>/dev/tcp/localhost/8008 && printf 'GET /config HTTP/1.0\\r\\n\\r\\n' >&3 "
           "&& cat <&3")


def apply(lab: Lab, say=print) -> bool:
    """Have the database do as lab.toml says; return whether that was a change."""
    strict = lab.durability == "strict"
    for node, container in containers(lab).values():
        try:
            answer = node.docker("exec", container, "bash", "-c", _CONFIG, timeout=10)
            now = json.loads(answer[answer.index("{"):])
        except (CommandFailed, ValueError):
            continue  # this one starts or stops; the next one knows as well
        if now.get("synchronous_mode_strict", False) == strict:
            return False
        node.docker("exec", container, "entrypoint.sh", "patronictl", "edit-config", lab.name,
                    "--force", "--quiet", "-s", f"synchronous_mode_strict={json.dumps(strict)}")
        say(f"database: durability is {lab.durability} now")
        return True
    raise NotYet("no member of the database answers; see: gislab status")


def told(lab: Lab, table: pd.DataFrame | None = None) -> str:
    """Say on how many Pis an acknowledged write is at this moment, in one line."""
    table = members(lab) if table is None else table
    if not ((table["role"] == "leader") & (table["state"] == "running")).any():
        return f"durability {lab.durability}: no member is primary, writes are refused"
    safe = table["role"].isin(["sync_standby", "quorum_standby"])
    if (safe & (table["state"] == "streaming")).any():
        return f"durability {lab.durability}: every acknowledged write is on two Pis"
    if lab.durability == "strict":
        return "durability strict: one member is left, writes are refused until a second is back"
    return "durability available: one member is left, writes are on ONE Pi alone"

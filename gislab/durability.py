"""What becomes of writes when one member of the database is left: refused, or on one Pi alone.

`durability = "strict"` in lab.toml: they end at once with PostgreSQL's own error, SQLSTATE 25006,
`cannot execute INSERT in a read-only transaction` (see images/postgis/guard.sh). "available":
they go on, and `gislab status` says so.
"""

from __future__ import annotations

import json

import pandas as pd

from .members import members, patroni, patronictl, safe
from .settings import Lab
from .wait import NotYet, until


def apply(lab: Lab, say=print) -> bool:
    """Have the database do as lab.toml says; return whether that was a change."""
    strict = lab.durability == "strict"

    def differs() -> bool:
        return patroni(lab, "config").get("synchronous_mode_strict", False) != strict

    def obeyed() -> None:  # a member answers from its last look at Consul
        if differs():
            raise NotYet("the members have not heard of it")
    if not differs():
        return False
    patronictl(lab, "edit-config", "--force", "--quiet", "-s",
               f"synchronous_mode_strict={json.dumps(strict)}")
    until(obeyed, what=f"durability {lab.durability}", timeout=30)
    say(f"database: durability is {lab.durability} now")
    return True


def told(lab: Lab, table: pd.DataFrame | None = None) -> str:
    """Say on how many Pis an acknowledged write is at this moment, in one line."""
    table = members(lab) if table is None else table
    if not ((table["role"] == "leader") & (table["state"] == "running")).any():
        return f"durability {lab.durability}: no member is primary, writes are refused"
    if (safe(table) & (table["state"] == "streaming")).any():
        return f"durability {lab.durability}: every acknowledged write is on two Pis"
    if lab.durability == "strict":
        return "durability strict: one member is left, writes are refused until a second is back"
    return "durability available: one member is left, writes are on ONE Pi alone"

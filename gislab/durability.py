"""What becomes of writes when one member of the database is left: refused, or on one Pi alone.

`durability = "strict"` in lab.toml: they end at once with PostgreSQL's own error, SQLSTATE 25006,
`cannot execute INSERT in a read-only transaction` (see images/postgis/guard.sh). "available":
they go on, and `gislab status` says so.
"""

from __future__ import annotations

import json

import pandas as pd
import yaml

from .members import members, patroni, patronictl, safe
from .settings import PROJECT, Lab
from .wait import NotYet, until

SETTINGS = PROJECT / "images" / "postgis" / "patroni.yml"


def apply(lab: Lab, say=print) -> bool:
    """Have the database do as lab.toml and patroni.yml say; return whether that was a change.

    Patroni reads its `bootstrap.dcs` once, when the database is born, and keeps it in Consul: a
    standing lab would time its failovers for ever by the numbers that it was born with. The
    parameters of PostgreSQL below it are not touched, since a new one may need a restart.
    """
    wanted = _wanted(lab)

    def differing() -> dict[str, object]:
        held = patroni(lab, "config")
        return {key: value for key, value in wanted.items() if held.get(key) != value}

    def obeyed() -> None:  # a member answers from its last look at Consul
        left = differing()
        if left:
            raise NotYet(f"the members have not heard of {', '.join(left)}")
    changes = differing()
    if not changes:
        return False
    words = [word for key, value in changes.items()
             for word in ("-s", f"{key}={json.dumps(value)}")]
    patronictl(lab, "edit-config", "--force", "--quiet", *words)
    until(obeyed, what=f"durability {lab.durability}", timeout=30)
    if changes.pop("synchronous_mode_strict", None) is not None:
        say(f"database: durability is {lab.durability} now")
    if changes:
        say("database: " + ", ".join(f"{key} is {value}" for key, value in changes.items())
            + " now")
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


def _wanted(lab: Lab) -> dict[str, object]:
    """Return the plain ones among Patroni's settings that all members share."""
    shared = yaml.safe_load(SETTINGS.read_text())["bootstrap"]["dcs"]
    plain = {key: value for key, value in shared.items() if not isinstance(value, dict)}
    return plain | {"synchronous_mode_strict": lab.durability == "strict"}

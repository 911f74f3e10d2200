#!/usr/bin/python3
"""Patroni, and a primary that has just died still names those who may succeed it.

Patroni keeps in Consul which replicas have all that was acknowledged; nobody else may take over.
When a postmaster dies, its connections to the replicas die with it, and for a moment Patroni may
still ask a process that is left, and be told that no replica is there. It would then write that
nobody may succeed, and have to start the dead one again: 19 s without a write where it was seen,
with 4.0.7. (patroni/patroni issue 2841 tells of the like.) So whoever finds replicas gone looks
whether the postmaster lives.
"""

import sys
from pathlib import Path

from patroni.__main__ import main
from patroni.exceptions import PostgresConnectionException
from patroni.postgresql.sync import SyncHandler

_current_state = SyncHandler.current_state


def _lives(data: str) -> bool:
    """Say whether the postmaster of a data folder runs; a zombie does not (proc(5), stat)."""
    try:
        pid = Path(data, "postmaster.pid").read_text().split(maxsplit=1)[0]
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _state_of_the_living(self, cluster):
    state = _current_state(self, cluster)
    gone = state.sync - state.active
    if gone and not _lives(self._postgresql.data_dir):
        raise PostgresConnectionException(f"not {', '.join(gone)}: the postmaster has gone")
    return state


SyncHandler.current_state = _state_of_the_living

if __name__ == "__main__":  # Patroni starts PostgreSQL in a process that reads this file again
    sys.exit(main())

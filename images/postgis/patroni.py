#!/usr/bin/python3
"""Patroni, and three things that no setting of it says (4.0.7).

A primary that has just died still names those who may succeed it. Patroni keeps in Consul which
replicas have all that was acknowledged; nobody else may take over. When a postmaster dies, its
connections to the replicas die with it, and for a moment Patroni may still ask a process that is
left, and be told that no replica is there. It would then write that nobody may succeed, and have
to start the dead one again: 19 s without a write where it was seen. (patroni/patroni issue 2841
tells of the like.) So whoever finds replicas gone looks whether the postmaster lives.

A question that a dead postmaster did not answer is not asked again. Patroni would ask a second
time, 0.1 to 0.9 s later (utils.py, `Retry`), before the look that finds it dead could begin. One
that is about to end is waited for: Patroni might take it for one that starts, and kill it.

A replica hears at once that the lock is free, or whose it is now. Patroni waits for that where it
has a whole second for it (dcs/consul.py, `watch`), else it sleeps; and less than one is what
`loop_wait: 1` leaves. It would see either up to a second late.
"""

import sys
import time
from http.client import HTTPException
from pathlib import Path

from consul import ConsulException
from patroni.__main__ import main
from patroni.dcs.consul import Consul
from patroni.exceptions import PostgresConnectionException
from patroni.postgresql import Postgresql
from patroni.postgresql.sync import SyncHandler
from patroni.utils import RetryFailedError
from urllib3.exceptions import HTTPError

_current_state, _query, _sleep = SyncHandler.current_state, Postgresql._query, Consul.watch


def _status(data: str) -> str:
    """Return how the postmaster of a data folder is, e.g. `ready`; "" where none runs.

    It says so in the last line of its file (PostgreSQL's pidfile.h). A zombie does not run
    (proc(5), stat).
    """
    try:
        pid, *_, status = Path(data, "postmaster.pid").read_text().split()
        alive = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError, ValueError):
        return ""
    return status if alive else ""


def _state_of_the_living(self, cluster):
    state = _current_state(self, cluster)
    gone = state.sync - state.active
    if gone and _status(self._postgresql.data_dir) in ("", "stopping"):
        raise PostgresConnectionException(f"not {', '.join(gone)}: the postmaster has gone")
    return state


def _query_of_the_living(self, sql, *params):
    try:
        return _query(self, sql, *params)
    except PostgresConnectionException as error:
        end = time.monotonic() + 1  # as long as Patroni might have waited
        while _status(self.data_dir) == "stopping" and time.monotonic() < end:
            time.sleep(0.02)
        if not _status(self.data_dir):
            raise RetryFailedError("the postmaster has gone") from error
        raise


def _watch(self, leader_version, timeout):
    """Wait for a change of the lock, or for `timeout` seconds; return whether there was one."""
    end = time.time() + timeout
    if leader_version and timeout > 0 and not self._Consul__do_not_watch:
        try:  # the server of this Pi says what it knows; who leads Consul does not matter
            version, _ = self._client.kv.get(self.leader_path, index=leader_version,
                                             wait=f"{timeout:.3f}s", consistency="stale")
            self._last_session_refresh = 0
            return str(version) != str(leader_version)
        except (ConsulException, HTTPException, HTTPError, OSError):
            pass
    return _sleep(self, None, max(0, end - time.time()))


SyncHandler.current_state = _state_of_the_living
Postgresql._query = _query_of_the_living
Consul.watch = _watch

if __name__ == "__main__":  # Patroni starts PostgreSQL in a process that reads this file again
    sys.exit(main())

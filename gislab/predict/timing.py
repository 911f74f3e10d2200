"""The settings that a prediction is made of, and nothing else: no figure here was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The settings that decide how fast each part notices a death; seconds unless said.

    The defaults are those of the stack: see images/keepalived/entrypoint.sh, stack/haproxy.cfg,
    stack/gis.yml, images/consul/entrypoint.sh, images/postgis/patroni.yml, and alive.sh,
    watch.sh and peers.cfg beside it. A test compares them with these files.
    """

    advert: float = 0.08  # keepalived advert_int; 0.2 where the kernel refuses realtime
    priority: int = 225  # keepalived, of the backup that takes over: 1 to 254
    watch_every: float = 0.25  # how often keepalived's watcher asks the local HAProxy ...
    watch_fall: int = 2  # ... and how many misses it takes
    connect: float = 0.4  # HAProxy `timeout connect`
    check_down: float = 0.1  # HAProxy `downinter`: how often it asks a member what it is now ...
    role_every: float = 0.1  # ... whose relay asks its Patroni as often
    maps: int = 3  # map servers; each is on a Pi of its own
    probe_every: float = 0.25  # Consul gossip_lan.probe_interval
    suspicion: float = 4  # Consul gossip_lan.suspicion_mult
    servers: int = 3  # Consul's, one on each Pi
    raft: float = 1.0  # Consul raft_multiplier; times 1 s: its heartbeat and election timeouts
    alive_ttl: float = 2.0  # Consul's TTL check of the member's container ...
    alive_every: float = 0.5  # ... and how often the container passes it
    loop_wait: float = 1.0  # Patroni
    watch_postgres: float = 0.1  # how often the member's watcher looks for its PostgreSQL
    watch_frozen: float = 1.0  # for how long it lets a stopped one be
    peer_poll: float = 0.3  # how long the relay to a peer waits for a host that drops packets
    promotion: float = 0.5  # pg_promote and the end of recovery, on an idle lab: an assumption
    session_ttl: float | None = None  # lock on the TTL alone, as Patroni does by default

    @property
    def found(self) -> float:
        """Return after how many seconds at most HAProxy has found the new primary."""
        return self.check_down + self.role_every

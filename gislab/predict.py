"""The outage that the settings predict for each fault. Pure: numbers in, seconds out.

Each prediction is a range: between the best and the worst moment for a client to ask, and for a
fault to come in a timer's cycle. What theory leaves out, such as a busy machine, a slow disk or
the time that a command takes to arrive, makes the measurement longer; a large difference is what
the lab is there to find.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from . import outage as outages
from .run import Run

SQL = ("sql_read", "sql_write", "write_primary")


@dataclass(frozen=True)
class Timing:
    """The settings that decide how fast each part notices a death; seconds unless said.

    The defaults are those of the stack: see images/keepalived/entrypoint.sh, stack/haproxy.cfg,
    images/consul/entrypoint.sh and images/postgis/patroni.yml.
    """

    advert: float = 0.2  # keepalived advert_int
    priority: int = 225  # keepalived, of the backup that takes over: 1 to 254
    watch_every: float = 0.25  # how often keepalived's watcher asks the local HAProxy ...
    watch_timeout: float = 0.2  # ... how long it waits ...
    watch_fall: int = 2  # ... and how many misses it takes
    connect: float = 0.4  # HAProxy `timeout connect`
    check_down: float = 0.15  # HAProxy `downinter`: how soon it sees that one is primary now
    probe_every: float = 0.25  # Consul gossip_lan.probe_interval
    suspicion: float = 4  # Consul gossip_lan.suspicion_mult
    servers: int = 3  # Consul
    raft: float = 1.0  # Consul raft_multiplier; times 1 s: its heartbeat and election timeouts
    alive_ttl: float = 2.0  # Consul's TTL check of the member's container
    loop_wait: float = 1.0  # Patroni
    watch_postgres: float = 0.1  # how often the member's watcher looks for its PostgreSQL
    watch_frozen: float = 1.0  # for how long it lets a stopped one be
    peer_poll: float = 0.3  # how long the relay to a peer waits for a host that drops packets
    promotion: float = 0.5  # pg_promote and the end of recovery, on an idle lab
    session_ttl: float | None = None  # lock on the TTL alone, as Patroni does by default


@dataclass(frozen=True)
class Prediction:
    """How long a lane is expected to be without a success, in seconds, and from what."""

    least: float
    most: float
    formula: str

    @property
    def known(self) -> bool:
        """Tell whether there is a theory at all."""
        return not math.isnan(self.most)

    @property
    def bounded(self) -> bool:
        """Tell whether it ends at a time that can be said, and drawn."""
        return math.isfinite(self.most)

    def __str__(self) -> str:
        if not self.known:
            return "no theory"
        if self.most == 0:
            return "none"
        if not self.bounded:
            return f"{self.least:.1f} s, or until it is undone" if self.least else \
                "until it is undone"
        return f"{self.least:.1f} to {self.most:.1f} s"


NONE = Prediction(0.0, 0.0, "no failed request")
NO_THEORY = Prediction(math.nan, math.nan, "no theory: measure it")


def outage(fault: str, probe: str, timing: Timing | None = None) -> Prediction:
    """Return the outage that `fault` costs the lane `probe`.

    Raises KeyError for a fault without a theory.
    """
    t = timing or Timing()
    return {
        "switchover": lambda: handed_over(t) if probe in SQL else NONE,
        "map_server_killed": lambda: NONE,
        "service_killed": lambda: NO_THEORY,  # it says not which service, on which Pi
        "haproxy_killed": lambda: haproxy_killed(t),
        "keepalived_killed": lambda: keepalived_killed(t),
        "primary_killed": lambda: primary_killed(t) if probe in SQL else NONE,
        "primary_container_killed": lambda: container_killed(t) if probe in SQL else NONE,
        "power_cut": lambda: database_moves(t) if probe in SQL else maps_move(t),
        "unplugged": lambda: database_moves(t) if probe in SQL else maps_move(t),
        "pi_power_cut": lambda: at_worst(database_moves(t) if probe in SQL else maps_move(t)),
        "primary_frozen": lambda: frozen(t) if probe in SQL else NONE,
        "primary_paused": lambda: container_killed(t) if probe in SQL else NONE,
        "primary_and_standby_dark": lambda: lasts(t, "no majority is left") if probe in SQL
        else maps_move(t),
        "primary_cut_off": lambda: cut_off(t, probe),
        "primary_deaf": lambda: cut_off(t, probe),
        "primary_mute": lambda: cut_off(t, probe),
        "link_cut": lambda: NO_THEORY if probe in SQL else NONE,
        "ring_cut": lambda: lasts(t, "no two Pis hear each other") if probe in SQL
        else NO_THEORY,
        "consul_leader_lost": lambda: NONE,
        "consul_majority_lost": lambda: NONE,  # Patroni's failsafe mode
        "cpu_full": lambda: NONE,
        "service_frozen": lambda: NO_THEORY,  # it says not which service, on which Pi
        "swarm_leader_lost": lambda: at_worst(database_moves(t) if probe in SQL else maps_move(t)),
        "swarm_majority_lost": lambda: lasts(t, "no majority is left") if probe in SQL
        else at_worst(maps_move(t)),
        "registry_lost": lambda: NONE,
        "network_halves": lambda: cut_off(t, probe),
        "lossy": lambda: NO_THEORY,  # by chance
        "slow": lambda: NO_THEORY,  # it depends on the size of the answers
        "memory_limit": lambda: NONE if probe in SQL else NO_THEORY,
        "disk_full": lambda: NONE,
    }[fault]()


def of(run: Run, probe: str, timing: Timing | None = None) -> Prediction:
    """Return what theory says of a run; nothing of another set-up, whose settings are not ours."""
    if run.settings.get("setup"):
        return NO_THEORY
    try:
        return outage(run.fault, probe, timing)
    except KeyError:
        return NO_THEORY


def table(fault: str, probes: list[str] | tuple[str, ...], timing: Timing | None = None
          ) -> pd.DataFrame:
    """Return one line per probe: the predicted outage and where it comes from."""
    found = {p: outage(fault, p, timing) for p in probes}
    return pd.DataFrame([{"probe": p, "predicted": str(f), "from": f.formula}
                         for p, f in found.items()])


def compare(runs: Iterable[Run], guesses: Mapping[str, float] | None = None,
            timing: Timing | None = None) -> pd.DataFrame:
    """Return one line per run: a reader's guess, the theory and the worst lane measured."""
    lines = []
    for run in runs:
        found = [outages.of(run, p) for p in run.probes]
        worst = max(found, key=lambda o: o.outage if o.recovered else math.inf)
        lines.append({
            "fault": run.settings.get("title", run.fault),
            "your guess [s]": (guesses or {}).get(run.fault, math.nan),
            "theory, at most [s]": _most([of(run, p, timing) for p in run.probes]),
            "measured, longest [s]": (round(worst.outage, 2) if worst.recovered
                                      else "not recovered"),
            "worst lane": "none" if worst.recovered and not worst.outage else worst.probe})
    return pd.DataFrame(lines).round(2)


def vip_moves(t: Timing) -> Prediction:
    """The holder vanishes: master_down_interval = 3 x advert + skew_time.

    skew_time = (256 - priority) x advert / 256. The last advert was sent up to one interval
    before the fault, hence the range. (RFC 5798, sections 6.1 and 6.4.2)
    """
    down = 3 * t.advert + skew(t)
    return Prediction(down - t.advert, down, "3 adverts + skew (RFC 5798)")


def skew(t: Timing) -> float:
    """Return VRRP's skew time: the higher the priority, the earlier a backup moves."""
    return (256 - t.priority) / 256 * t.advert


def maps_move(t: Timing) -> Prediction:
    """The VIP moves, and the new holder's HAProxy meets map servers that are gone.

    It takes them out after `fall` checks; until then a request that meets a dead one is tried
    again at another after `timeout connect` (HAProxy Configuration Manual, `check`, `retries`,
    `option redispatch`). Both run while the VIP moves, so only the rest is added.
    """
    vip = vip_moves(t)
    return Prediction(vip.least, vip.most + t.connect,
                      f"{vip.formula} + at most one HAProxy connect timeout")


def haproxy_killed(t: Timing) -> Prediction:
    """Keepalived's watcher misses `fall` answers, then hands the address over.

    A holder in fault says so with priority 0, so that the backup waits for the skew time only
    (RFC 5798, section 6.4.3). A killed HAProxy refuses at once and costs no watch timeout.
    """
    least = (t.watch_fall - 1) * t.watch_every + skew(t)
    return Prediction(least, t.watch_fall * (t.watch_every + t.watch_timeout) + skew(t),
                      "watcher: fall x interval + skew")


def keepalived_killed(t: Timing) -> Prediction:
    """SIGKILL leaves the address on the old holder, which goes on answering.

    A backup takes over after master_down_interval and announces itself (gratuitous ARP), so
    the worst case is that of a vanished holder; mostly only connections that were open break.
    """
    return Prediction(0.0, vip_moves(t).most, "at most 3 adverts + skew (RFC 5798)")


def handed_over(t: Timing) -> Prediction:
    """The primary stops as a service does, having sent everything; then as if it had crashed.

    Nobody has to find out about a death, and nothing is to be recovered; but the stop itself, and
    the first replica that follows the new primary and acknowledges, take their time too.
    """
    crash = primary_killed(t)
    return Prediction(crash.least, crash.most + t.promotion, f"clean stop + {crash.formula}")


def primary_killed(t: Timing) -> Prediction:
    """The member's watcher sees the postmaster gone and wakes Patroni, which gives up the lock.

    With `primary_start_timeout: 0` it does so at once; the replicas are woken by Consul's
    blocking query. Then promotion, and HAProxy's checks that see the new primary.
    (images/postgis/watch.sh; Patroni documentation, "Dynamic Configuration Settings")
    """
    return Prediction(t.promotion, t.watch_postgres + t.promotion + t.check_down,
                      "watcher + promotion + HAProxy check")


def container_killed(t: Timing) -> Prediction:
    """Nobody gives up the lock: it falls with the TTL check of the member's container.

    Consul marks it critical `TTL` after the last pass and drops the session that hangs on it
    (Consul documentation, "Sessions"). Then as for a killed primary.
    """
    if t.session_ttl is not None:
        return _by_ttl(t)
    rest = t.promotion + t.check_down
    return Prediction(t.alive_ttl - 0.5 + t.promotion, t.alive_ttl + t.peer_poll + rest,
                      "TTL of the alive check + peer poll + promotion + HAProxy check")


def gossip_death(t: Timing) -> Prediction:
    """Consul's members find one dead: its turn in the probing, then the suspicion timeout.

    suspicion = suspicion_mult x max(1, log10(n)) x probe_interval; n members are probed one by
    one, in a random order. (hashicorp/memberlist, `suspicionTimeout` in util.go)
    """
    suspicion = t.suspicion * max(1.0, math.log10(max(1, t.servers))) * t.probe_every
    return Prediction(t.probe_every + suspicion,
                      (t.servers - 1) * t.probe_every + t.probe_every + suspicion,
                      "Consul probes + suspicion (memberlist)")


def election(t: Timing) -> Prediction:
    """Consul's leader is dead: the others notice, and elect another.

    A follower waits for a heartbeat timeout, drawn anew between one and two times `raft`. It is
    refused a vote by one whose own has not passed yet, and then asks again after an election
    timeout, drawn likewise. (hashicorp/raft, `runFollower` and `runCandidate` in raft.go)
    """
    return Prediction(t.raft, 4 * t.raft, "Consul's election (Raft)")


def database_moves(t: Timing) -> Prediction:
    """A Pi with the primary vanishes: gossip, then the lock, a vote, promotion, HAProxy.

    At worst that Pi led Consul, too: until there is another leader no lock falls, and Patroni,
    which got errors, asks again at its next look. Patroni asks its peers before it takes the
    lock, and waits two seconds for one that drops packets; the relay in between gives up sooner
    (images/postgis/peers.cfg). The VIP moves meanwhile, and is sooner.
    """
    if t.session_ttl is not None:
        return _by_ttl(t)
    dead, leader = gossip_death(t), election(t)
    rest = t.promotion + t.check_down
    return Prediction(dead.least + t.promotion,
                      max(dead.most, leader.most + t.loop_wait) + t.peer_poll + rest,
                      f"{dead.formula}; or, if it led Consul, {leader.formula} + Patroni's look; "
                      "+ peer poll + promotion + HAProxy check")


def at_worst(p: Prediction) -> Prediction:
    """The same at the most, and nothing where the Pi that is struck had no part in it."""
    return Prediction(0.0, p.most, p.formula + ", if that Pi had the role")


def frozen(t: Timing) -> Prediction:
    """PostgreSQL is stopped (SIGSTOP), and so cannot give up its role; it is ended, then replaced.

    The member's watcher ends it when it has been stopped for `watch_frozen`; from there on as
    for a killed primary. (images/postgis/watch.sh)
    """
    if t.session_ttl is not None:  # without the watcher: Patroni waits, and renews nothing
        return _by_ttl(t)
    dead = primary_killed(t)
    return Prediction(t.watch_frozen + dead.least, t.watch_frozen + t.watch_postgres + dead.most,
                      "watcher ends the frozen one + as a killed primary")


def cut_off(t: Timing, probe: str) -> Prediction:
    """The primary's Pi is cut off, in one direction or both, and others take over.

    For the rest it is as if it had lost power. But it lives: if it held the VIP, it keeps the
    address, as nobody tells it of another holder, and clients that still reach it get no answer
    for as long as it lasts. VRRP has no quorum. (RFC 5798, section 6.4.3)
    """
    best = at_worst(database_moves(t) if probe in SQL else maps_move(t))
    return Prediction(best.least, math.inf, "as a power cut; or, with the VIP on the Pi that is "
                      "cut off, until it is undone (VRRP knows no majority)")


def lasts(t: Timing, why: str) -> Prediction:
    """Nothing can be done about it but to undo it: a write is refused, or waits."""
    return Prediction(0.0, math.inf, f"{why}: refused until it is undone")


def _most(found: list[Prediction]) -> float | str:
    if not all(p.known for p in found):
        return "no theory"
    most = max(p.most for p in found)
    return round(most, 2) if math.isfinite(most) else "until it is undone"


def _by_ttl(t: Timing) -> Prediction:
    # Consul waits up to twice the TTL before it drops a session (documentation, "Sessions")
    least = t.session_ttl - t.loop_wait
    return Prediction(least, 2 * t.session_ttl + t.loop_wait + t.peer_poll + t.promotion,
                      "session TTL, up to twice")

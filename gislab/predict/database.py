"""How soon there is another primary: who notices, how the lock falls, who takes it."""

from __future__ import annotations

import math

from .consul import election, gossip_death
from .prediction import Prediction, anywhere
from .timing import Timing


def primary_killed(t: Timing) -> Prediction:
    """The member's watcher sees the postmaster gone and wakes Patroni, which gives up the lock.

    With `primary_start_timeout: 0` it does so at once; the replicas are woken by Consul's
    blocking query. Then promotion, and HAProxy's checks that see the new primary. The watcher
    and the checks are struck at any moment of their intervals: half of each is expected.
    (images/postgis/watch.sh; Patroni documentation, "Dynamic Configuration Settings")
    """
    return anywhere(t.promotion, t.watch_postgres + t.promotion + t.found,
                    "watcher + promotion + HAProxy check")


def handed_over(t: Timing) -> Prediction:
    """The primary stops as a service does, having sent everything; then as if it had crashed.

    Nobody has to find out about a death, and nothing is to be recovered; but the stop itself, and
    the first replica that follows the new primary and acknowledges, take their time too: up to
    that of a promotion, and half of it is expected.
    (Patroni documentation, "patronictl", switchover; PostgreSQL manual, 18.5, fast shutdown)
    """
    crash = primary_killed(t)
    return Prediction(crash.least, crash.expected + t.promotion / 2, crash.most + t.promotion,
                      f"clean stop + {crash.formula}")


def container_killed(t: Timing) -> Prediction:
    """Nobody gives up the lock: it falls with the TTL check of the member's container.

    Consul marks it critical `TTL` after the last pass and drops the session that hangs on it
    (Consul documentation, "Sessions"). The last pass was up to `alive_every` before, half of that
    on average (images/postgis/alive.sh). Whether a dead container refuses the relay or lets it
    wait is up to the network, which forgets it at some moment: half the wait is expected. Then as
    for a killed primary.
    """
    if t.session_ttl is not None:
        return by_ttl(t)
    return Prediction(
        t.alive_ttl - t.alive_every + t.promotion,
        t.alive_ttl - t.alive_every / 2 + t.peer_poll / 2 + t.promotion + t.found / 2,
        t.alive_ttl + t.peer_poll + t.promotion + t.found,
        "TTL of the alive check + peer poll + promotion + HAProxy check")


def frozen(t: Timing) -> Prediction:
    """PostgreSQL is stopped (SIGSTOP), and so cannot give up its role; it is ended, then replaced.

    The member's watcher ends it when it has been stopped for `watch_frozen`, which it sees up to
    one look later, half of one on average; from there on as for a killed primary.
    (images/postgis/watch.sh)
    """
    if t.session_ttl is not None:  # without the watcher: Patroni waits, and renews nothing
        return by_ttl(t)
    dead = primary_killed(t)
    return Prediction(t.watch_frozen + dead.least,
                      t.watch_frozen + t.watch_postgres / 2 + dead.expected,
                      t.watch_frozen + t.watch_postgres + dead.most,
                      "watcher ends the frozen one + as a killed primary")


def database_moves(t: Timing) -> Prediction:
    """A Pi with the primary vanishes: gossip, then the lock, a vote, promotion, HAProxy.

    At worst that Pi led Consul, too: until there is another leader no lock falls, and Patroni,
    which got errors, asks again at its next look. Patroni asks its peers before it takes the
    lock, and waits two seconds for one that drops packets; the relay in between gives up sooner
    (images/postgis/peers.cfg). The VIP moves meanwhile, and is sooner.

    Expected: of `servers` Pis any may lead Consul, so one time in as many it is this one; then an
    election and half a look, else the gossip. A dark Pi drops packets, so that the relay's wait
    counts whole, and of HAProxy's last check half. (The sources are those of each part: see
    consul.py beside this; Consul documentation, "Sessions"; Patroni's ha.py, `fetch_node_status`)
    """
    if t.session_ttl is not None:
        return by_ttl(t)
    dead, leader = gossip_death(t), election(t)
    led = max(dead.expected, leader.expected + t.loop_wait / 2)
    noticed = dead.expected + (led - dead.expected) / t.servers
    return Prediction(dead.least + t.promotion,
                      noticed + t.peer_poll + t.promotion + t.found / 2,
                      max(dead.most, leader.most + t.loop_wait) + t.peer_poll + t.promotion
                      + t.found,
                      f"{dead.formula}; or, if it led Consul, {leader.formula} + Patroni's look; "
                      "+ peer poll + promotion + HAProxy check")


def cut_off() -> Prediction:
    """The primary's Pi is cut off, in one direction or both, and others take over.

    For the rest it is as if it had lost power. But it lives: if it held the VIP, it keeps the
    address, as nobody tells it of another holder, and clients that still reach it get no answer
    for as long as it lasts. VRRP has no quorum. (RFC 5798, section 6.4.3) As one of the cases has
    no end, there is no mean to expect.
    """
    return Prediction(0.0, math.inf, math.inf, "as a power cut; or, with the VIP on the Pi that "
                      "is cut off, until it is undone (VRRP knows no majority)")


def by_ttl(t: Timing) -> Prediction:
    """The lock hangs on a session's TTL alone, which is Patroni's way by default.

    Consul promises not to drop a session before its TTL, and may wait up to twice as long
    (Consul documentation, "Sessions"). It does wait twice as long (hashicorp/consul,
    session_ttl.go, `SessionTTLMultiplier`), and Patroni, which knows, asks for half (Patroni's
    dcs/consul.py, `set_ttl`): so the whole TTL is expected, from the last renewal on, which was
    half a look ago.
    """
    return Prediction(t.session_ttl - t.loop_wait,
                      t.session_ttl - t.loop_wait / 2 + t.peer_poll / 2 + t.promotion
                      + t.found / 2,
                      2 * t.session_ttl + t.loop_wait + t.peer_poll + t.promotion,
                      "session TTL, up to twice")

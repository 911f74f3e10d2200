"""How soon the address moves, and maps with it: Keepalived, its watcher, HAProxy."""

from __future__ import annotations

from .prediction import Prediction, anywhere
from .timing import Timing


def vip_moves(t: Timing) -> Prediction:
    """The holder vanishes: master_down_interval = 3 x advert + skew_time.

    skew_time = (256 - priority) x advert / 256. The last advert was sent up to one interval
    before the fault, hence the range; half an interval before it on average.
    (RFC 5798, sections 6.1 and 6.4.2)
    """
    down = 3 * t.advert + skew(t)
    return anywhere(down - t.advert, down, "3 adverts + skew (RFC 5798)")


def skew(t: Timing) -> float:
    """Return VRRP's skew time: the higher the priority, the earlier a backup moves."""
    return (256 - t.priority) / 256 * t.advert


def maps_move(t: Timing) -> Prediction:
    """The VIP moves, and the new holder's HAProxy meets map servers that are gone.

    It takes them out after `fall` checks; until then a request that meets a dead one is tried
    again at another after `timeout connect` (HAProxy Configuration Manual, `check`, `retries`,
    `option redispatch`). Both run while the VIP moves, so only the rest is added. One of `maps`
    servers was on the dead Pi: the first request after the move meets it that often, and so that
    share of the timeout is expected.
    """
    vip = vip_moves(t)
    return Prediction(vip.least, vip.expected + t.connect / t.maps, vip.most + t.connect,
                      f"{vip.formula} + at most one HAProxy connect timeout")


def haproxy_killed(t: Timing) -> Prediction:
    """Keepalived's watcher misses `fall` answers, then hands the address over.

    A killed HAProxy refuses at once, so a miss costs no timeout. The first miss comes with the
    next question, up to one interval after the fault and half of one on average; the last one
    `fall - 1` intervals later. A holder in fault says so with priority 0, so that the backup
    waits for the skew time only. (images/keepalived/entrypoint.sh; RFC 5798, section 6.4.3)
    """
    least = (t.watch_fall - 1) * t.watch_every + skew(t)
    return anywhere(least, least + t.watch_every, "watcher: fall x interval + skew")


def keepalived_killed(t: Timing) -> Prediction:
    """SIGKILL leaves the address on the old holder, which goes on answering.

    A backup takes over after master_down_interval and announces itself (gratuitous ARP), so
    the worst case is that of a vanished holder. But until then the old holder answers, and from
    then on the new one: what is expected is no gap. Only connections that were open break.
    (RFC 5798, section 6.4.2)
    """
    return Prediction(0.0, 0.0, vip_moves(t).most, "at most 3 adverts + skew (RFC 5798)")

"""How soon Consul's servers know that one of them is dead, and that it was their leader."""

from __future__ import annotations

import math

from .prediction import Prediction
from .timing import Timing


def gossip_death(t: Timing) -> Prediction:
    """Consul's members find one dead: its turn in the probing, then the suspicion timeout.

    suspicion = suspicion_mult x max(1, log10(n)) x probe_interval; n members are probed one by
    one, in a random order, and a probe is given up after its interval. The dead one's turn comes
    within n - 1 intervals, at any moment of them. All n - 1 others probe, and the first of them
    that finds it dead counts: the smallest of k random moments of a time L comes after L/(k + 1)
    on average, which is (n - 1)/n intervals here.
    (hashicorp/memberlist, `suspicionTimeout` in util.go, `probe` and `suspectNode` in state.go;
    order statistics of the uniform distribution: David and Nagaraja, "Order Statistics")
    """
    suspicion = t.suspicion * max(1.0, math.log10(max(1, t.servers))) * t.probe_every
    least, others = t.probe_every + suspicion, t.servers - 1
    return Prediction(least, least + others / t.servers * t.probe_every,
                      least + others * t.probe_every, "Consul probes + suspicion (memberlist)")


def election(t: Timing) -> Prediction:
    """Consul's leader is dead: the others notice, and elect another.

    A follower waits for a heartbeat timeout, drawn anew between one and two times `raft`. It is
    refused a vote by one whose own has not passed yet, and then asks again after an election
    timeout, drawn likewise. Expected: the first of the n - 1 followers, whose timeout is
    1 + 1/n times `raft` on average, is refused, and waits for an election timeout, 1.5 times
    `raft` on average. (hashicorp/raft, `runFollower`, `runCandidate` and `requestVote` in
    raft.go, `randomTimeout` in util.go)
    """
    first = t.raft * (1 + 1 / max(2, t.servers))
    return Prediction(t.raft, first + 1.5 * t.raft, 4 * t.raft, "Consul's election (Raft)")

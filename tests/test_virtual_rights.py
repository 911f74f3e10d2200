"""Virtual Pis on a machine that may not give a container every right: what is asked instead."""

import pytest
from docker.errors import APIError, NotFound

from gislab import engine, images, virtual

# As Docker 26.1 says it on a machine whose own bounding set lacks SYS_RESOURCE.
CAPS = ("failed to create task for container: failed to create shim task: OCI runtime create "
        "failed: runc create failed: unable to start container process: unable to apply caps: "
        "operation not permitted")


class Container:
    def __init__(self, made, refuse):
        self.made, self.refuse, self.status, self.labels = made, refuse, "created", made["labels"]

    def start(self):
        said = self.refuse(self.made["host_config"])
        if said:
            raise APIError("500 Server Error", explanation=said)
        self.status = "running"

    def remove(self, force):
        self.status = "removed"


class Engine:
    """An engine of which only what `_pi_up` asks is there; it keeps what it was told to make."""

    def __init__(self, refuse):
        self.refuse, self.made = refuse, []
        self.api = self.containers = self.volumes = self

    def create(self, name, labels):
        pass

    def create_host_config(self, **words):
        return words

    def create_endpoint_config(self, **words):
        return words

    create_networking_config = staticmethod(lambda networks: networks)

    def create_container(self, image, **words):
        self.made.append(Container(words, self.refuse))
        return len(self.made)

    def get(self, which):
        if isinstance(which, str):
            raise NotFound(which)
        return self.made[which - 1]


@pytest.fixture
def bring_up(paper, monkeypatch):
    """Bring one Pi up on an engine that refuses as it is told; return the engine, and what is
    said."""
    def do(refuse):
        made, told = Engine(refuse), []
        monkeypatch.setattr(engine, "client", lambda: made)
        monkeypatch.setattr(images, "tag", lambda lab, name: f"gislab/{name}:1")
        monkeypatch.setattr(virtual, "_forget_host_key", lambda lab, machine: None)
        try:
            virtual._pi_up(paper, paper.machines[0], "ssh-ed25519 AAAA", told.append)
        except virtual.VirtualError as error:
            told.append(str(error))
        return made.made, told
    return do


def test_a_machine_that_may_give_every_right_gives_it(bring_up):
    (pi,), told = bring_up(lambda host: "")
    assert pi.made["host_config"]["privileged"] and pi.status == "running"
    assert told == ["pi1: made at 172.30.16.11, privileged"]


def test_without_sys_resource_the_pi_gets_all_the_other_rights_and_the_same_disk(bring_up):
    (first, second), told = bring_up(lambda host: CAPS if host.get("privileged") else "")
    assert first.status == "removed" and second.status == "running"
    host = second.made["host_config"]
    assert "privileged" not in host
    assert host["cap_add"] == ["ALL"] and host["cap_drop"] == ["SYS_RESOURCE"]
    # what --privileged takes away besides: without them no engine and no iptables inside
    assert host["MaskedPaths"] == host["ReadonlyPaths"] == []
    assert host["security_opt"] == ["seccomp=unconfined", "apparmor=unconfined"]
    assert host["binds"] == first.made["host_config"]["binds"]
    assert told == ["pi1: made at 172.30.16.11, with every capability this machine has"]


def test_any_other_refusal_is_told_at_once_and_leaves_no_container(bring_up):
    made, told = bring_up(lambda host: "Address already in use")
    assert [pi.status for pi in made] == ["removed"]
    assert told == ["pi1 does not start: Address already in use"]


def test_a_machine_that_gives_neither_is_told_and_nothing_is_left(bring_up):
    made, told = bring_up(lambda host: CAPS)
    assert [pi.status for pi in made] == ["removed"] * 2
    assert told == [f"pi1 does not start: {CAPS}"]

"""The image of Keepalived keeps what it promises: one holder, quickly another, no way back."""

from __future__ import annotations

import time
import uuid

import pytest

from gislab import settings
from gislab.shell import archive
from gislab.wait import NotYet, until

pytestmark = pytest.mark.live
CONFIG = (settings.PROJECT / "stack" / "haproxy.cfg").read_bytes()
COMPLETE = {"NODE_NAME": "pi1", "NODES": "pi1=192.0.2.1 pi2=192.0.2.2", "VIP": "192.0.2.9"}
POWERS = {"cap_drop": ["ALL"], "read_only": True, "tmpfs": {"/run": ""},
          "cap_add": ["NET_ADMIN", "NET_RAW", "NET_BROADCAST", "SYS_NICE", "IPC_LOCK"]}


class Pis:
    """Two hosts, each a network of its own in which HAProxy and Keepalived run."""

    def __init__(self, client, image):
        self.client, self.image = client, image
        self.network = client.networks.create(f"gislab-vrrp-{uuid.uuid4().hex[:8]}")
        self.network.reload()
        prefix = self.network.attrs["IPAM"]["Config"][0]["Subnet"].rsplit(".", 1)[0]
        self.vip = f"{prefix}.200"
        self.containers, self.hosts, self.proxies, self.keepers = [], {}, {}, {}
        for name in ("pi1", "pi2"):
            self.hosts[name] = self._run("keepalived", ["sleep", "infinity"],
                                         network=self.network.name, init=True)
        self.nodes = " ".join(f"{name}={self._address(c)}" for name, c in self.hosts.items())
        for name in self.hosts:
            self.proxies[name] = self._proxy(name)
            self.keep(name)

    def keep(self, name: str) -> None:
        """Start Keepalived on a host."""
        self.keepers[name] = self._run("keepalived", None, environment={
            "NODE_NAME": name, "NODES": self.nodes, "VIP": self.vip},
            network_mode=f"container:{self.hosts[name].id}", **POWERS)

    def holders(self) -> list[str]:
        return [name for name, host in self.hosts.items()
                if host.exec_run(["ip", "-o", "addr", "show", "to", self.vip]).output]

    def holder(self, other_than: str | None = None, timeout: float = 5) -> str:
        """Wait for exactly one holder; return its name."""
        def ask():
            found = self.holders()
            if len(found) != 1 or found[0] == other_than:
                raise NotYet(f"held by {found}")
            return found[0]
        return until(ask, what="one holder of the VIP", timeout=timeout, every=0.05)

    def _proxy(self, name: str):
        made = self.client.containers.create(
            self.image("haproxy"), environment={"NODE_NAME": name, "HAPROXY_PASSWORD": "x"},
            network_mode=f"container:{self.hosts[name].id}")
        self.containers.append(made)
        made.put_archive("/etc/haproxy", archive({"haproxy.cfg": CONFIG}))
        made.start()
        return made

    def _run(self, image: str, command, **options):
        made = self.client.containers.run(self.image(image), command, detach=True, **options)
        self.containers.append(made)
        return made

    def _address(self, container) -> str:
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        return networks[self.network.name]["IPAddress"]

    def close(self) -> None:
        for container in reversed(self.containers):
            container.remove(force=True, v=True)
        self.network.remove()


@pytest.fixture
def pis(the_engine, image):
    made = Pis(the_engine, image)
    yield made
    made.close()


def test_prints_its_version(run):
    """Keepalived 2.3 is there, for this architecture."""
    assert "v2.3" in run("keepalived", "--version", entrypoint="keepalived")[1]


@pytest.mark.parametrize("missing", COMPLETE)
def test_names_the_variable_that_is_missing(names_what_is_missing, missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("keepalived", missing=missing, of=COMPLETE)


def test_names_a_node_that_is_not_in_the_list(run):
    """A Pi that was renamed is told so."""
    code, said = run("keepalived", environment=COMPLETE | {"NODE_NAME": "pi9"})
    assert code != 0
    assert "pi9 is not in NODES" in said


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("keepalived") == []


def test_the_vip_leaves_a_pi_whose_haproxy_dies_and_does_not_return(pis):
    """A dead HAProxy moves the VIP; alive again it does not break connections a second time."""
    first = pis.holder(timeout=30)
    pis.proxies[first].kill("SIGKILL")
    second = pis.holder(other_than=first)
    pis.proxies[first].start()
    until(lambda: _tracked(pis.keepers[first]), what="HAProxy to be seen again", timeout=10)
    assert pis.holder() == second


def test_a_stopped_keepalived_gives_the_vip_away(pis):
    """SIGTERM: the address is taken off, and the other Pi has it at once."""
    first = pis.holder(timeout=30)
    pis.keepers[first].stop(timeout=5)
    assert pis.holder(other_than=first, timeout=2) != first


def test_a_killed_keepalived_cleans_up_when_it_returns(pis):
    """SIGKILL leaves the address behind; the next start takes it off, so one Pi has it."""
    first = pis.holder(timeout=30)
    pis.keepers[first].kill("SIGKILL")
    other = ({"pi1", "pi2"} - {first}).pop()

    def taken():
        if other not in pis.holders():
            raise NotYet("not yet taken over")
    until(taken, what="the other Pi to take over", timeout=5)
    pis.keepers[first].start()
    assert pis.holder(other_than=first, timeout=10) == other


def test_sessions_end_when_the_vip_leaves_and_not_when_a_lower_one_was_heard(pis):
    """Frozen for a moment, a Pi hears of its successor and keeps the address: it has not left."""
    pis.holder(timeout=30)
    pis.keepers["pi2"].restart(timeout=5)  # if it was the quicker one
    assert pis.holder(other_than="pi2") == "pi1"
    host, keeper = pis.hosts["pi1"], pis.keepers["pi1"]
    host.exec_run(["bash", "-c", f"exec 3<>/dev/tcp/{pis.vip}/8404; sleep 60"], detach=True)

    def sessions() -> int:
        return len(host.exec_run(["ss", "-Htn", "state", "established", "src",
                                  pis.vip]).output.splitlines())

    def here() -> None:
        if not sessions():
            raise NotYet("no session")

    def heard() -> None:
        if b"with lower priority" not in keeper.logs():
            raise NotYet("nothing heard of another")

    def gone() -> None:
        if sessions():
            raise NotYet("the session stands")
    until(here, what="a session", timeout=5)
    keeper.pause()
    time.sleep(1)  # more than three adverts
    keeper.unpause()
    until(heard, what="the other's advert", timeout=5)
    assert pis.holder() == "pi1"
    time.sleep(1)  # it tells its watcher four times a second
    assert sessions(), "a session ended, though the address stayed"
    pis.proxies["pi1"].pause()  # a dead one would end it by itself
    pis.holder(other_than="pi1")
    until(gone, what="the session's end", timeout=5)


def test_adverts_are_realtime_where_the_kernel_allows_it_and_nice_elsewhere(pis):
    """Else a Pi whose processors are busy seems dead to the others, and loses the VIP."""
    keeper = pis.keepers[pis.holder(timeout=30)]
    allowed = keeper.exec_run(["chrt", "--fifo", "1", "true"]).exit_code == 0
    said = keeper.exec_run(["sh", "-c", "grep -h '^[0-9]* (keepalived)' /proc/[0-9]*/stat"])
    # proc_pid_stat(5): fields 19 and 41, after the name, which is the second
    found = {(int(field[16]), int(field[38])) for field in (
        line.rpartition(")")[2].split() for line in said.output.decode().splitlines())}
    realtime = {policy for _, policy in found} & {1, 2}  # SCHED_FIFO, SCHED_RR
    assert bool(realtime) == allowed
    assert allowed or -20 in {nice for nice, _ in found}
    written = keeper.exec_run(["cat", "/run/gislab/keepalived.conf"]).output.decode()
    assert f"advert_int {'0.08' if allowed else '0.2'}\n" in written


def _tracked(container) -> None:
    if container.exec_run(["cat", "/run/gislab/haproxy"]).output.strip() != b"0":
        raise NotYet("not seen")

"""A slow network delays what goes from Pi to Pi, really, and nothing else."""

import os
import shutil
import subprocess

import pytest

from gislab import cuts, delay, faults
from gislab.shell import Result

# two Pis in one network namespace and another: 10.9.0.1, and 10.9.0.2 beside 10.9.0.3
WORLD = """
set -e
unshare --net sleep 60 & there=$!
trap 'kill $there' EXIT
until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do :; done
ip link add v0 type veth peer name v1 netns $there
ip link set v0 up; ip addr add 10.9.0.1/24 dev v0
nsenter --net=/proc/$there/ns/net sh -c 'ip link set v1 up; ip addr add 10.9.0.2/24 dev v1
    ip addr add 10.9.0.3/24 dev v1'
nsenter --net=/proc/$there/ns/net python3 -c "$SINK" & sink=$!
trap 'kill $there $sink' EXIT
sh -ec "$BEGIN"
python3 -c "$ASK" 10.9.0.2 10.9.0.3
sh -c "$FORGET"
python3 -c "$ASK" 10.9.0.2
tc qdisc show dev v0; iptables -t mangle -S
"""
SINK = """
import socket
s = socket.create_server(("", 5000))
while True:
    c, _ = s.accept()
    while c.recv(65536): pass
    c.sendall(b"k"); c.close()
"""
ASK = """
import socket, sys, time
for where in sys.argv[1:]:
    for _ in range(100):
        try:
            s = socket.create_connection((where, 5000), 1); break
        except OSError: time.sleep(0.05)
    t = time.monotonic(); s.sendall(b"x" * 250_000); s.shutdown(1); s.recv(1)
    print(time.monotonic() - t)
"""


@pytest.mark.skipif(os.geteuid() != 0 or not all(map(shutil.which, ("tc", "ip", "iptables",
                                                                    "unshare", "nsenter"))),
                    reason="only root has networks of its own, with ip, tc and iptables")
def test_what_goes_to_a_pi_is_late_what_goes_elsewhere_is_not_and_then_all_is_as_before():
    def run(how):
        return subprocess.run(
            ["unshare", "--net", "bash", "-c", WORLD], capture_output=True, text=True, timeout=60,
            env={**os.environ, "SINK": SINK, "ASK": ASK, "FORGET": delay.FORGET,
                 "BEGIN": delay.script("10.9.0.1", ["10.9.0.2"], how)})
    done = run(delay.HTB)
    if "Operation not permitted" in done.stderr or "kind is unknown" in done.stderr:
        pytest.skip(f"not on this kernel: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    late, other, after, *left = done.stdout.split("\n")
    assert float(late) > 0.7, "250 kB at 2 Mbit/s take a second"
    assert float(other) < 0.3 and float(after) < 0.3
    assert "htb" not in "".join(left) and cuts.CHAIN not in "".join(left)


@pytest.mark.parametrize("code, means, words", [
    (0, delay.NETEM, "netem delay 50ms"), (2, delay.HTB, "pfifo limit 100")])
def test_netem_is_used_where_every_kernel_has_it_and_the_run_says_what_was(
        paper, pis, code, means, words):
    pis.answer("unshare", "--net", "tc", out=Result((), 0, "", ""))
    pis[1].answers["unshare", "--net", "tc"] = Result((), code, "", "kind is unknown")
    pis.answer("sh", "-ec")
    assert delay.means(paper) == means
    assert faults.slow(paper).aim().what == f"all Pis: {delay.TOLD[means]}"
    delay.begin(paper)
    for (pi, told), own in zip(pis.sent("sh", "-ec"), (1, 2, 3), strict=True):
        assert pi == f"pi{own}" and words in told
        assert f"-d 172.30.16.1{own} " not in told and f"-d {paper.vip} " in told
        assert told.count("--set-class 71:7") == 3


def test_only_our_own_queue_is_taken_from_a_pi():
    assert delay.FORGET.index('"htb" && $3 == "71:"') < delay.FORGET.index("tc qdisc del")

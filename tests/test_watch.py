"""The watcher sees what changes on a Pi, says when, and costs it next to nothing.

The program that runs on a Pi runs here, against servers on loopback that answer as HAProxy 3.0,
Consul and Docker 26.1 do.
"""

import contextlib
import http.server
import json
import os
import queue
import resource
import shutil
import socketserver
import threading
import time

import pytest

from gislab import watch
from gislab.shell import Local, Result
from gislab.watch import Line

CSV = ("# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,"
       "wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,"
       "lbtot,tracked,type,rate,rate_lim,\n")


def csv(**servers):
    """What HAProxy says of `backend__server=status`, between a frontend and a backend."""
    def row(proxy, server, status, kind):
        return ",".join([proxy, server, *[""] * 15, status, *[""] * 14, str(kind), "0", ""])
    lines = [row(*name.split("__"), status, 2) for name, status in servers.items()]
    return CSV + "\n".join([row("maps", "FRONTEND", "OPEN", 0), *lines,
                            row("maps", "BACKEND", "UP", 1)]) + "\n"


def raft(leader):
    return json.dumps({"Servers": [
        {"ID": name, "Node": name, "Address": f"172.30.16.1{name[-1]}:8300",
         "Leader": name == leader, "ProtocolVersion": "3", "Voter": True}
        for name in ("pi1", "pi2", "pi3")], "Index": 9}, separators=(",", ":"))


def managers(leader):
    return json.dumps([{
        "ID": name, "Description": {"Hostname": name}, "Status": {"State": "ready"},
        "ManagerStatus": {**({"Leader": True} if name == leader else {}),
                          "Reachability": "reachable", "Addr": f"172.30.16.1{name[-1]}:2377"}}
        for name in ("pi1", "pi2", "pi3")], separators=(",", ":"))


def event(action, task):
    return json.dumps({"status": action, "Type": "container", "Action": action, "Actor": {
        "ID": "c1", "Attributes": {"com.docker.swarm.task.name": task, "name": task}},
        "scope": "local", "time": 1, "timeNano": 1}, separators=(",", ":")) + "\n"


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers by the path's beginning; a queue is a stream, None says nothing at all."""

    def do_GET(self):
        with contextlib.suppress(ConnectionError):  # the program was ended meanwhile
            self.answer()

    def answer(self):
        self.server.asked.append((self.path, dict(self.headers)))
        path = max((p for p in self.server.answers if self.path.startswith(p)), key=len)
        answer = self.server.answers[path]
        answer = answer(self.path) if callable(answer) else answer
        if answer is None:
            self.server.over.wait()
            return
        status, body, head = answer if isinstance(answer, tuple) else (200, answer, {})
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name, value)
        self.end_headers()
        if isinstance(body, queue.Queue):
            while (line := body.get()) is not None:
                self.wfile.write(line.encode())
                self.wfile.flush()
        else:
            self.wfile.write(body.encode())

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass


class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serve(server, answers):
    server.answers, server.asked, server.over = answers, [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def pi(tmp_path, paper):
    """One Pi of servers on loopback; the program begins in `pi.listen()`."""
    if not shutil.which("perl"):
        pytest.skip("perl is not installed")
    made = type("Pi", (), {})()
    made.lock, made.changed = ["postgis1"], threading.Event()
    made.events = queue.Queue()

    def lock(path):
        if "index=" in path:
            made.changed.wait(5)
            made.changed.clear()
        name = made.lock[-1]
        return (200 if name else 404), name, {"X-Consul-Index": str(6 + len(made.lock))}
    made.haproxy = serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers), {
        "/;csv": csv(primary__postgis1="UP", primary__postgis2="DOWN", maps__maps1="UP",
                     maps__maps9="MAINT")})
    made.consul = serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers), {
        "/v1/operator/raft/configuration?stale": raft("pi2"),
        "/v1/kv/service/gislab/leader?stale&raw": lock})
    made.docker = serve(Unix(str(tmp_path / "docker.sock"), Answers), {
        "/nodes?": managers("pi3"), "/events?": made.events,
        "/containers/json?": '[{"Labels":{"com.docker.swarm.task.name":"gis_mapserver.2.xq4b0"}},'
                             '{"Labels":{"com.docker.swarm.task.name":"gis_haproxy.n0de.abc"}}]'})
    made.facts = {**watch.facts(paper, "127.0.0.1"), "vip": "127.0.0.1",
                  "stats": made.haproxy.server_port, "consul": made.consul.server_port,
                  "docker": str(tmp_path / "docker.sock")}
    made.heard, made.lines, made.all = None, queue.Queue(), []

    def listen(**facts):
        text = watch.program({**made.facts, **facts})
        made.heard = Local().listen(["perl", "-e", watch._LOAD.format(len(text.encode()))],
                                    input=text)
        threading.Thread(target=lambda: [made.lines.put(line) for line in made.heard],
                         daemon=True).start()

    def says(*wanted, within=6.0):
        """Wait for the states `wanted`; return how long the last one took."""
        missing, begin = set(wanted), time.monotonic()
        while missing:
            try:
                line = made.lines.get(timeout=max(0.01, begin + within - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"not told: {missing}; told: {made.all}")
            made.all.append(line)
            missing.discard(tuple(line.split("\t")[1:]))
        return time.monotonic() - begin
    made.listen, made.says = listen, says
    yield made
    made.events.put(None)
    if made.heard:
        made.heard.close()
    for server in (made.haproxy, made.consul, made.docker):
        server.over.set()
        server.shutdown()
        server.server_close()


def test_every_part_tells_at_once_how_it_is(pi):
    pi.listen()
    pi.says(("vip", "", "here"), ("primary", "", "postgis1"), ("server", "primary/postgis1", "UP"),
            ("server", "primary/postgis2", "DOWN"), ("server", "maps/maps1", "UP"),
            ("consul_leader", "", "pi2"), ("swarm_leader", "", "172.30.16.13"),
            ("task", "mapserver.2", "running"), ("task", "haproxy", "running"),
            ("haproxy", "", "answers"), ("consul", "", "answers"), ("docker", "", "answers"))
    assert not [line for line in pi.all if "maps9" in line], "an empty place is no news"


def test_an_address_that_is_another_machines_is_away(pi):
    pi.listen(vip="192.0.2.1")
    pi.says(("vip", "", "away"))


def test_each_change_is_told_once_and_soon(pi):
    pi.listen()
    pi.says(("primary", "", "postgis1"), ("server", "maps/maps1", "UP"),
            ("task", "mapserver.2", "running"), ("consul_leader", "", "pi2"))
    for name in ("", "postgis2"):  # let go, then taken: both are told, as Consul tells them
        pi.lock.append(name)
        pi.changed.set()
        assert pi.says(("primary", "", name)) < 1
    pi.haproxy.answers["/;csv"] = csv(primary__postgis1="DOWN", primary__postgis2="UP 1/2",
                                      maps__maps1="UP")
    pi.events.put(event("die", "gis_mapserver.2.xq4b0"))
    pi.consul.answers["/v1/operator/raft/configuration?stale"] = raft(None)
    assert pi.says(("server", "primary/postgis1", "DOWN"), ("server", "primary/postgis2", "UP"),
                   ("task", "mapserver.2", "die"), ("consul_leader", "", "")) < 3
    told = [line.split("\t", 1)[1] for line in pi.all if "\t" in line]
    assert told.count("primary\t\tpostgis2") == 1 and told.count("server\tmaps/maps1\tUP") == 1


def test_a_part_that_is_gone_and_one_that_is_frozen_are_both_silent(pi):
    pi.consul.answers["/v1/operator/raft/configuration?stale"] = None  # takes it, says nothing
    pi.haproxy.shutdown()
    pi.haproxy.server_close()
    pi.listen()
    pi.says(("haproxy", "", "silent"), ("consul", "", "silent"), ("swarm_leader", "",
            "172.30.16.13"))


def test_a_swarm_without_a_leader_is_told(pi):
    pi.listen()
    pi.says(("swarm_leader", "", "172.30.16.13"))
    pi.docker.answers["/nodes?"] = (503, "The swarm does not have a leader", {})
    pi.says(("swarm_leader", "", ""))


def test_it_ends_when_nobody_listens_any_more(pi):
    pi.listen()
    pi.says(("vip", "", "here"))
    pi.heard._process.stdin.close()
    assert pi.heard._process.wait(5) == 0


def test_it_costs_a_pi_next_to_nothing(pi):
    """Processor time of the program itself, beginning included; not of what it asks."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pi.haproxy.answers["/;csv"] = csv(**{f"maps__maps{n}": "UP" for n in range(30)})
    pi.listen()
    pi.says(("server", "maps/maps29", "UP"))
    threading.Event().wait(4)
    pi.heard.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{spent:.3f} s of processor time in 4 s")
    assert spent < 0.4
    asked = len([1 for path, _ in pi.haproxy.asked if path == "/;csv"])
    assert 10 <= asked <= 30


def test_the_secrets_reach_the_pi_by_its_input_and_never_by_its_words(paper, pis):
    pis.answer("perl", out="1.00\tvip\t\there\n")
    with watch.Watch(paper) as watched:
        deadline = time.monotonic() + 5
        while len(watched.seen(0)) < 9 and time.monotonic() < deadline:
            threading.Event().wait(0.02)
    for remote in pis:
        words, text = " ".join(remote.commands[0]), remote.inputs[0]
        for secret in ("consul_token", "haproxy_password"):
            assert paper.secret(secret) not in words
        assert paper.secret("consul_token") in text and paper.machine(remote.name).address in text
    assert {(node, kind, state) for _, node, kind, _, state in watched.seen(0)} >= {
        ("pi1", "vip", "here"), ("pi3", "vip", "here"), ("pi2", "watch", "begins")}


def test_a_pi_that_cannot_be_watched_stops_nobody(paper, pis):
    pis.answer("perl", out=Result((), 127, "", "perl: not found"))
    with watch.Watch(paper) as watched:
        pass
    assert watched.seen(0) == []


def line(node, arrived, text, session=1):
    return Line(node, session, arrived, text)


def test_lines_get_the_time_at_which_the_pi_saw_them_not_that_of_their_arrival():
    """The network was cut for five seconds; what was seen meanwhile came afterwards."""
    seen = watch.placed([
        line("pi1", 100.02, "7.00"), line("pi1", 101.01, "8.00"),
        line("pi1", 107.0, "9.50\tvip\t\there"), line("pi1", 107.0, "10.00")],
        began=100.0, names={})
    assert [(round(t, 2), *rest) for t, *rest in seen] == [
        (0.01, "pi1", "watch", "", "begins"), (2.51, "pi1", "vip", "", "here"),
        (3.01, "pi1", "watch", "", "ends")]


def test_each_session_has_a_clock_of_its_own_since_a_pi_may_have_booted():
    seen = watch.placed([line("pi1", 100.0, "5000.00"),
                         line("pi1", 110.0, "3.00\tvip\t\taway", session=2)], 100.0, {})
    assert [(t, state) for t, *_, state in seen] == [
        (0.0, "begins"), (0.0, "ends"), (10.0, "begins"), (10.0, "away"), (10.0, "ends")]


def test_what_was_so_before_the_run_is_told_once_at_its_beginning():
    seen = watch.placed([line("pi1", 90.0, "1.00\tprimary\t\tpostgis1"),
                         line("pi1", 91.0, "2.00\tprimary\t\tpostgis2"),
                         line("pi1", 101.0, "12.00\tprimary\t\tpostgis3")], 100.0, {})
    assert [(t, state) for t, _, kind, _, state in seen if kind == "primary"] == [
        (0.0, "postgis2"), (1.0, "postgis3")]


def test_addresses_become_names_and_a_line_that_was_cut_off_is_left_out():
    seen = watch.placed([line("pi1", 1.0, "1.00\tswarm_leader\t\t172.30.16.12"),
                         line("pi1", 1.1, "1.1"), line("pi1", 1.2, "1.2\tvi"), line("pi1", 2, "")],
                        0.0, {"172.30.16.12": "pi2"})
    assert [state for *_, kind, _, state in seen if kind == "swarm_leader"] == ["pi2"]
    assert {kind for _, _, kind, *_ in seen} == {"watch", "swarm_leader"}


def test_what_several_pis_saw_is_in_the_order_of_time():
    seen = watch.placed([line("pi1", 1.0, "1\tvip\t\there"), line("pi1", 9.0, "9\tvip\t\taway"),
                         line("pi2", 5.0, "70\tvip\t\taway"),
                         line("pi2", 9.1, "74.1\tvip\t\there")], 0.0, {})
    assert [(node, state) for _, node, kind, _, state in seen if kind == "vip"] == [
        ("pi1", "here"), ("pi2", "away"), ("pi1", "away"), ("pi2", "here")]


def test_a_value_with_a_quote_stays_a_value(pi):
    pi.listen(token="it's \\ '; exit; '")
    pi.says(("consul_leader", "", "pi2"))
    assert pi.consul.asked[0][1]["X-Consul-Token"] == "it's \\ '; exit; '"
    assert os.path.exists(watch.PROGRAM)

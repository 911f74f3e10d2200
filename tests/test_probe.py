"""Probes against real sockets on loopback: an HTTP server, one that speaks PostgreSQL's protocol,
one that never answers, and a port where nobody listens.
"""

import asyncio
import contextlib
import gc
import http.server
import io
import socket
import struct
import threading
import time

import psycopg
import pytest
from matplotlib.figure import Figure

from gislab import probe, question, wait


def png(width=question.WIDTH, height=question.HEIGHT) -> bytes:
    buffer = io.BytesIO()
    Figure(figsize=(width / 100, height / 100)).savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


PNG = png()


class Http(http.server.ThreadingHTTPServer):
    """A map server that does what `behave` says: a body, a status, or a number of seconds."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.clients = PNG, []
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.clients.append(self.client_address)
        behave = self.server.behave
        if isinstance(behave, float):
            time.sleep(behave)
            return
        status = behave if isinstance(behave, int) else 200
        self.send_response(status)
        self.end_headers()
        if isinstance(behave, bytes):
            self.wfile.write(behave)

    def log_message(self, *_):
        pass


class Postgres(threading.Thread):
    """A server of PostgreSQL's protocol (chapter 54) that answers each statement with one row.

    behave: "row", "silent" (never answers), "break" (hangs up), or an SQLSTATE.
    welcome, pause: seconds that a log-in and an answer take.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.behave, self.connections, self.statements = "row", 0, 0
        self.welcome, self.pause, self.entering, self.most = 0.0, 0.0, 0, 0
        port = self.listener.getsockname()[1]
        self.dsn = f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable gssencmode=disable"
        self.start()

    def run(self):
        while True:
            client = self.listener.accept()[0]
            self.connections += 1
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        stream = client.makefile("rwb")
        stream.read(struct.unpack(">I", stream.read(4))[0] - 4)
        self.entering += 1
        self.most = max(self.most, self.entering)
        threading.Event().wait(self.welcome)
        self.entering -= 1
        ready = _message(b"Z", b"I")
        stream.write(_message(b"R", struct.pack(">I", 0)) + ready)
        stream.flush()
        while kind := stream.read(1):
            stream.read(struct.unpack(">I", stream.read(4))[0] - 4)
            if kind not in b"QS":  # the rest of an extended query waits for its Sync
                continue
            self.statements += 1
            if self.behave == "silent":
                continue
            threading.Event().wait(self.pause)
            if self.behave == "break":
                client.shutdown(socket.SHUT_RDWR)
                return
            extended = _message(b"1") + _message(b"2") if kind == b"S" else b""
            if self.behave == "row":
                name = b"id\0" + struct.pack(">IHIhIH", 0, 0, 23, 4, 0xFFFFFFFF, 0)
                stream.write(extended + _message(b"T", struct.pack(">H", 1) + name)
                             + _message(b"D", struct.pack(">HI", 1, 1) + b"1")
                             + _message(b"C", b"SELECT 1\0"))
            else:
                code = self.behave.encode()
                stream.write(_message(b"E", b"SERROR\0C" + code + b"\0Mplanted\0\0"))
            stream.write(ready)
            stream.flush()


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


@pytest.fixture
def web():
    server = Http()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def database():
    return Postgres()


def refused() -> int:
    """A port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def maps(url, timeout=0.5):
    return question.Maps(url, timeout=timeout, judge=question.judge_png)


def ask(one, *numbers):
    """Ask the question in order; return (outcome, detail) for each."""
    async def all_of():
        found = []
        for number in numbers or (0,):
            try:
                found.append(("ok", await one.ask(number)))
            except question.Failed as error:
                found.append(("failed", str(error)))
            except question.Unknown as error:
                found.append(("unknown", str(error)))
        await one.close()
        return found
    return asyncio.run(all_of())


def test_a_whole_png_is_ok(web):
    assert ask(maps(web.url)) == [("ok", "")]


@pytest.mark.parametrize("behave, said", [
    (PNG[:-20], "cut"), (PNG[:200] + b"X" + PNG[201:], "damaged"), (png(32, 32), "another size"),
    (b"<ServiceExceptionReport/>", "not a PNG"), (503, "HTTP 503"), (b"", "not a PNG")])
def test_what_is_not_the_map_asked_for_failed(web, behave, said):
    web.behave = behave
    [(outcome, detail)] = ask(maps(web.url))
    assert outcome == "failed" and said in detail


def test_a_refused_connection_failed_and_a_missing_answer_is_unknown(web):
    assert ask(maps(f"http://127.0.0.1:{refused()}"))[0][0] == "failed"
    web.behave = 1.0
    assert ask(maps(web.url, timeout=0.2)) == [("unknown", "no answer in time")]


def test_every_map_is_asked_for_over_a_connection_of_its_own(web):
    ask(maps(web.url), 0, 1, 2)
    assert len({port for _, port in web.clients}) == 3


def test_a_feature_is_ok_only_if_it_is_there(web):
    def features():
        return question.Maps(web.url, timeout=1, judge=question.judge_features)
    for body, outcome in ((b'{"features": [{}]}', "ok"), (b'{"features": []}', "failed"),
                          (b"<xml/>", "failed"), (b"[]", "failed")):
        web.behave = body
        assert ask(features())[0][0] == outcome


def sql(database, timeout=0.5, **how):
    statement = "select %s" if "first" in how else "select 1"
    return question.Sql(database.dsn, statement, timeout=timeout, **how)


def test_a_connection_is_kept_for_the_next_statement(database):
    assert [o for o, _ in ask(sql(database), 0, 1, 2)] == ["ok"] * 3
    assert database.connections == 1


def test_a_connection_that_is_given_up_is_closed_at_once():
    """Else its socket is one more client in the queue, and others wait for who is gone."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    one = question.Sql(f"host=127.0.0.1 port={listener.getsockname()[1]} user=u dbname=d "
                       "sslmode=disable gssencmode=disable", "select 1", timeout=0.3)
    gc.disable()  # it comes when it likes
    try:
        with probe.Probes({"sql_read": one}, rate=20) as probes:
            probes.watch(1.5)
        clients = []
        with contextlib.suppress(TimeoutError):
            while True:
                clients.append(listener.accept()[0])
        for client in clients:
            client.settimeout(2)
            while client.recv(1024):
                pass
    finally:
        gc.enable()
        listener.close()
    assert len(clients) >= 8 and set(probes.samples()["detail"]) == {"no connection in time"}


def test_a_connection_that_comes_late_serves_all_who_wait(database):
    """And those that are being made are few: a storm of log-ins would keep a database down."""
    database.welcome = 0.5
    with probe.Probes({"sql_read": sql(database, timeout=0.8)}, rate=50) as probes:
        probes.watch(1.5)
    samples = probes.samples()
    assert set(samples["outcome"]) == {"ok"} and len(samples) > 60
    assert database.most <= question.MAKING + 0.5 / question.PACE  # one more at each pace
    assert database.connections < 10


def test_log_ins_that_hang_keep_nobody_from_the_next(database):
    """They have two seconds; whoever comes after them is served long before."""
    database.welcome = 3
    with probe.Probes({"sql_read": sql(database, timeout=2)}, rate=20) as probes:
        probes.watch(0.3)
        assert database.entering >= question.MAKING
        database.welcome = 0.0
        changed = probes.now()
        probes.watch(1)
    samples = probes.samples()
    ok = samples[samples["outcome"] == "ok"]
    assert (ok["sent"] + ok["took"]).min() < changed + 0.8


def test_a_log_in_outlives_the_question_that_asked_for_it(database):
    one = sql(database, timeout=0.4)

    async def asks_before_it_is_open():
        database.welcome = 0.3
        first = asyncio.create_task(one.ask(0))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await one.ask(1)
        took = time.monotonic() - began
        await one.close()
        return took
    assert asyncio.run(asks_before_it_is_open()) < 0.25 and database.connections == 1


def test_a_slow_server_is_not_asked_for_a_new_log_in_by_every_question(database):
    """Its answers are late and so unknown, but the connections are the same ones all the time."""
    database.pause = 0.5
    with probe.Probes({"sql_read": sql(database, timeout=0.3)}, rate=20) as probes:
        probes.watch(2)
        assert 0 < database.connections <= question.MOST
        database.pause = 0.0
        probes.watch(1.5)
    samples = probes.samples()
    assert set(samples[samples["sent"] < 1.5]["outcome"]) <= {"unknown", "failed"}
    assert set(samples[samples["sent"] > 2.7]["outcome"]) == {"ok"}
    assert database.connections <= question.MOST


def test_a_connection_that_is_never_answered_is_given_up_and_makes_room(database, monkeypatch):
    monkeypatch.setattr(question, "LATE", 0.5)
    database.behave = "silent"
    with probe.Probes({"sql_read": sql(database, timeout=0.2)}, rate=40) as probes:
        probes.watch(1.2)
        database.behave = "row"
        probes.watch(1.3)
    samples = probes.samples()
    assert set(samples[samples["sent"] > 2]["outcome"]) == {"ok"}
    assert database.connections > question.MOST


def test_a_write_without_an_answer_is_unknown_and_given_up_in_time(database):
    database.behave = "silent"
    begin = time.monotonic()
    assert ask(sql(database, timeout=0.3, first=7)) == [("unknown", "no answer in time")]
    assert time.monotonic() - begin < 1.0


def test_a_write_whose_connection_breaks_is_unknown(database):
    database.behave = "break"
    assert ask(sql(database, first=7))[0][0] == "unknown"


@pytest.mark.parametrize("code, outcome", [
    ("25006", "failed"),   # read-only: a replica refused it
    ("57P03", "failed"),   # cannot connect now
    ("57P01", "unknown"),  # shutdown: may come after the local commit
    ("XX000", "unknown"),  # Pgpool's own words prove nothing
    ("23505", "failed")])
def test_only_an_error_that_comes_before_a_commit_is_a_failure(database, code, outcome):
    database.behave = code
    assert ask(sql(database, first=7))[0][0] == outcome


def test_after_an_error_no_old_connection_is_used_again(database):
    one = sql(database)

    async def errs_then_works():
        await one.ask(0)
        database.behave = "25006"
        with pytest.raises(question.Failed):
            await one.ask(1)
        database.behave = "row"
        await one.ask(2)
        await one.close()
    asyncio.run(errs_then_works())
    assert database.connections == 2


def test_a_connection_that_was_closed_while_idle_is_not_mistaken_for_a_failure(database):
    one = sql(database)

    async def closed_meanwhile():
        await one.ask(0)
        idle = one._idle[0]
        with socket.socket(fileno=socket.dup(idle.pgconn.socket)) as handle:
            handle.shutdown(socket.SHUT_RD)
        await one.ask(1)
        await one.close()
    asyncio.run(closed_meanwhile())
    assert database.connections == 2


def test_no_database_at_all_is_a_failure_since_nothing_was_sent():
    dsn = f"host=127.0.0.1 port={refused()} user=u dbname=d"
    [(outcome, detail)] = ask(question.Sql(dsn, "select 1", timeout=0.5, first=7))
    assert outcome == "failed" and "no connection" in detail


def test_a_late_answer_does_not_delay_the_next_question(web):
    web.behave = 5.0
    with probe.Probes({"maps": maps(web.url)}, rate=20) as probes:
        probes.watch(1.2)
        asked = len(web.clients)
    assert asked >= 20  # a client that waits would have asked once
    assert set(probes.samples()["outcome"]) == {"unknown"}
    assert probes.samples()["took"].max() < 2


def test_questions_keep_their_times_and_rows_their_numbers(web, database):
    lanes = {"maps": maps(web.url), "sql_write": sql(database, first=10**18)}
    with probe.Probes(lanes, rate=20) as probes:
        probes.watch(1)
    samples = probes.samples()
    sent = samples[samples["probe"] == "maps"]["sent"]
    assert 15 <= len(sent) <= 24 and sent.diff().dropna().median() == pytest.approx(0.05, abs=0.02)
    rows = samples.dropna(subset=["row"])["row"].tolist()
    assert sorted(rows) == list(range(10**18, 10**18 + len(rows)))
    assert (samples["outcome"] == "ok").all()


def test_a_mistake_in_a_statement_is_no_sample_but_stops_the_probes(database):
    wrong = question.Sql(database.dsn, "select 1", timeout=0.5, first=7)  # no place for the row
    probes = probe.Probes({"sql_write": wrong}, rate=20)
    with pytest.raises(psycopg.ProgrammingError), probes:  # it may be told before all have begun
        probes.watch(5)
    assert probes.samples().empty


def test_a_limit_keeps_the_unanswered_questions_of_a_lane_few(web):
    web.behave = 5.0
    with probe.Probes({"maps": maps(web.url)}, rate=50, limit=2) as probes:
        probes.watch(0.25)
        assert len(web.clients) <= 2
    assert 1 <= len(probes.samples()) <= 4


class Stalls:
    """A question that once keeps the whole program from going on, as a busy laptop does."""

    timeout = 1

    async def ask(self, number):
        if number == 5:
            threading.Event().wait(0.5)
        return ""

    def row(self, number):
        return None

    async def close(self):
        pass


def test_a_laptop_that_is_too_busy_to_ask_is_told_and_leaves_no_question_out():
    with probe.Probes({"maps": Stalls()}, rate=50) as probes:
        probes.watch(1.2)
    late = probes.lateness()
    assert 0.3 < late["most"] < 0.7 and late["median"] < 0.2
    assert len(probes.samples()) >= 50  # what was due meanwhile was asked, too


class Sleepy(Stalls):
    """Nothing is answered until it has been asked eight times; it notes the numbers."""

    def __init__(self):
        self.numbers = []

    async def ask(self, number):
        self.numbers.append(number)
        if len(self.numbers) <= 8:
            raise question.Failed("still cold")
        return ""


def test_what_is_asked_until_the_lanes_are_warm_is_not_kept():
    lane = Sleepy()
    with probe.Probes({"maps": lane}, rate=50, warm=5) as probes:
        assert probes.now() < 0.5, "the clock starts when they are"
        probes.watch(0.3)
    samples, cold = probes.samples(), [n for n in lane.numbers if n < 0]
    assert len(cold) > 8 and len(samples) == len(lane.numbers) - len(cold)
    assert samples["sent"].iloc[0] < 0.2 and set(samples["outcome"]) == {"ok"}
    assert lane.numbers == [-1 - n for n in range(len(cold))] + list(range(len(samples)))


def test_what_is_written_to_be_warm_is_no_row_of_a_run(database):
    lane = sql(database, first=10**6)
    assert [lane.row(n) for n in (-2, -1, 0, 1)] == [-2, -1, 10**6, 10**6 + 1]
    assert sql(database).row(-1) is None


def test_lanes_that_do_not_become_warm_are_named_and_asked_no_longer():
    probes = probe.Probes({"maps": Sleepy(), "sql_read": Stalls()}, rate=4, warm=1)
    with pytest.raises(wait.WaitTimeout, match="maps.*must answer before it is measured"):
        probes.__enter__()
    assert not probes._thread.is_alive()


def test_each_lane_has_a_rate_and_a_timeout_of_its_own(paper, web, database):
    lanes = {"maps": maps(web.url), "sql_read": sql(database)}
    with probe.Probes(lanes, rate={"maps": 5, "sql_read": 40}) as probes:
        probes.watch(1)
    count = probes.samples()["probe"].value_counts()
    assert 4 <= count["maps"] <= 7 and 30 <= count["sql_read"] <= 42
    made = probe.vip(paper, rate=7, timeout={lane: 1 + i for i, lane in enumerate(probe.LANES)})
    assert {lane: question.timeout for lane, question in made.lanes.items()} == {
        "maps": probe.PATIENCE, "sql_read": 2, "sql_write": 3, "write_primary": 4}
    assert set(made.rates.values()) == {7}

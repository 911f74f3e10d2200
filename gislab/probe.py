"""Ask the VIP steadily, from outside, and write down every answer.

The probes are open-loop: question n goes out at n/rate seconds, whether or not the ones before
it were answered. A client that waits for its answer asks less during an outage and so hides it
(Tene's "coordinated omission"). Each question runs in an asyncio task of its own, all of them on
one thread and one monotonic clock.

How the questions travel, since it decides what an outage looks like:

- Every map is asked for over a new TCP connection, as by a browser that comes for the first time.
- SQL goes over persistent connections, as an application's pool does: logging in with SCRAM costs
  the server about 5 ms of processor time, more than the statement. A question takes a connection
  that is idle, or the first that becomes free or is opened; a few are being opened at a time, and
  what comes too late for its question, a connection or an answer on one, is kept for the next:
  else a busy server would be answered with a storm of log-ins. When one breaks, all that are idle
  are closed, so that what is measured is when the *service* is back, not how long a pool clings to
  dead sockets.
  A connection that the other side closed while it was idle is noticed before it is used.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Mapping

import pandas as pd
from psycopg.conninfo import make_conninfo

from . import history, run
from .question import (
    Failed,
    Maps,
    Question,
    Sql,
    Unknown,
    feature_url,
    judge_features,
    judge_png,
    map_url,
)
from .settings import Lab
from .wait import NotYet, WaitTimeout, until

LANES = ("maps", "sql_read", "sql_write", "write_primary")
PATIENCE = 5.0  # seconds for a map
WARM = 60.0  # seconds within which a lab must come to answer steadily, or it is not measured
HALF = 500_000  # numbers per writing lane; a run of 10 Hz lasts 13 hours before they are used up


class Probes:
    """Questions asked steadily from a thread of their own; use it in `with`.

    Parameters
    ----------
    lanes : name -> Question.
    rate : questions per second: float, for every lane; or name -> float.
    limit : int, how many questions of a lane may wait for their answers; one that comes due
        beyond that is left out. None: as many as there are, which is what an outage looks like.
    warm : float, seconds within which every lane must come to answer steadily. What is asked
        until then is not kept, and its numbers are below 0; the clock starts afterwards. Caches
        that are cold, and sessions still to be opened, make the first seconds of asking slower
        than the lab is. 0: the first question counts.

    Raises
    ------
    WaitTimeout : on entering; the lanes named are not warm.
    """

    def __init__(self, lanes: dict[str, Question], *, rate: float | Mapping[str, float] = 10,
                 limit: int | None = None, warm: float = 0):
        self.lanes, self.limit, self._warm = lanes, limit, warm
        self.rates = {lane: _of(lane, rate) for lane in lanes}
        self._patience = max(question.timeout for question in lanes.values()) + 1
        self._samples: list[tuple] = []  # appended to by one thread, copied by others
        self._open: set[float] = set()  # likewise: when those were sent that have no answer yet
        self._counts = threading.Event()  # the lanes are warm: what is asked from now on counts
        self._under_way = threading.Event()  # the clock has started
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="probes", daemon=True)
        self._error: BaseException | None = None
        self._late: list[float] = []  # seconds, of each question behind its schedule
        self.began = 0.0  # on the monotonic clock

    def __enter__(self) -> Probes:
        self.began = time.monotonic()
        self._thread.start()
        try:
            if self._warm:
                self.steady(0.5, timeout=self._warm)
            self._counts.set()
            self._under_way.wait()
            self.watch(0)
        except WaitTimeout as error:
            self.__exit__()
            raise WaitTimeout(f"{error}: the lab must answer before it is measured; see: "
                              "gislab status") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(self._patience + 10)

    def now(self) -> float:
        """Return the seconds since the start, on the clock of the samples."""
        return time.monotonic() - self.began

    def watch(self, seconds: float) -> None:
        """Let the probes ask for `seconds`; raises what made them stop, if anything did."""
        self._stop.wait(seconds)
        if self._error:
            raise self._error

    def samples(self) -> pd.DataFrame:
        """Return what is known so far: the columns of Run.samples, in the order of sending."""
        table = run.make(self._samples.copy()).samples
        return table.sort_values("sent", kind="stable", ignore_index=True)

    def recent(self, since: float) -> dict[str, list[str]]:
        """Return the outcomes of the questions sent at `since` seconds or later, by lane."""
        found: dict[str, list[str]] = {lane: [] for lane in self.lanes}
        for name, sent, _, outcome, *_ in self._samples.copy():
            if sent >= since:
                found[name].append(outcome)
        return found

    def waiting(self) -> float:
        """Return when the oldest question was sent that has no answer yet; inf without one."""
        return min(self._open.copy(), default=math.inf)

    def steady(self, seconds: float, *, timeout: float) -> None:
        """Wait until every lane has succeeded, and nothing else, for `seconds`.

        At least for the length of five questions of the slowest lane.

        Raises
        ------
        WaitTimeout : that was not so within `timeout` seconds; names the lanes.
        """
        # Some questions have no answer yet. The answered ones decide, if there are enough of
        # them; and then what was asked before that moment must be answered, too. That may have
        # taken a while, in which other ones may have begun to hang: so it is asked a second time.
        seconds = max(seconds, 5 / min(self.rates.values()))
        enough = {lane: max(3, int(rate * seconds / 2)) for lane, rate in self.rates.items()}
        well = math.inf  # since when all lanes have succeeded for so long
        sure = False

        def ask() -> None:
            nonlocal well, sure
            now = self.now()
            bad = [lane for lane, outcomes in self.recent(now - seconds).items()
                   if len(outcomes) < enough[lane] or set(outcomes) != {"ok"}]
            if bad:
                well, sure = math.inf, False
                self.watch(0)  # raises if the probes themselves have died
                raise NotYet(", ".join(bad))
            well = min(well, now)
            if self.waiting() < well:
                raise NotYet("answers are missing")
            if not sure:
                well, sure = now, True
                raise NotYet("a second look")
        until(ask, what="every lane to succeed", timeout=timeout, every=0.25)

    def lateness(self) -> dict[str, float]:
        """Return how late questions were sent, in seconds: median, p99, most.

        It is this machine's own fault, and no part of an answer's time. More than the pause
        between two questions means that it was too busy to measure.
        """
        late = pd.Series(self._late or [0.0])
        return {"median": round(late.median(), 4), "p99": round(late.quantile(0.99), 4),
                "most": round(late.max(), 4)}

    def _main(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:  # noqa: BLE001  shown by watch(), in the caller's thread
            self._error = error
            self._stop.set()
        finally:
            self._under_way.set()

    async def _all(self) -> None:
        try:
            if self._warm:
                await self._steadily_all(self._counts, warm=True)
                self._samples, self._open, self._late = [], set(), []
            self.began = time.monotonic()
            self._under_way.set()
            await self._steadily_all(self._stop)
        finally:
            for question in self.lanes.values():
                await question.close()

    async def _steadily_all(self, end: threading.Event, *, warm: bool = False) -> None:
        # The lanes are shifted against each other, so that not all ask in the same instant.
        await asyncio.gather(*(self._steadily(n, q, i / len(self.lanes), end, warm)
                               for i, (n, q) in enumerate(self.lanes.items())))

    async def _steadily(self, name: str, question: Question, phase: float,
                        end: threading.Event, warm: bool) -> None:
        asked: set[asyncio.Task] = set()
        number = 0
        while not (end.is_set() or self._stop.is_set()):
            due = (number + phase) / self.rates[name]
            if due > self.now():
                await asyncio.sleep(min(due - self.now(), 0.2))
                continue
            if self.limit is None or len(asked) < self.limit:
                task = asyncio.create_task(
                    self._one(name, question, -1 - number if warm else number, due))
                asked.add(task)
                task.add_done_callback(asked.discard)
            number += 1
        if asked:
            await asyncio.wait(asked, timeout=self._patience)

    async def _one(self, name: str, question: Question, number: int, due: float) -> None:
        sent = self.now()
        self._late.append(sent - due)
        self._open.add(sent)
        outcome, detail = "ok", ""
        try:
            # A question has its own, kinder way to give up; this is for one that has none left.
            detail = await asyncio.wait_for(question.ask(number), question.timeout + 0.5)
        except Failed as error:
            outcome, detail = "failed", str(error)
        except (Unknown, TimeoutError) as error:
            outcome, detail = "unknown", str(error) or "no answer in time"
        except Exception as error:  # a mistake of ours is no sample: the probes stop, and say so
            self._error = error
            self._stop.set()
            return
        self._samples.append((name, sent, self.now() - sent, outcome, detail[:200],
                              question.row(number)))
        self._open.discard(sent)


def vip(lab: Lab, *, lanes: tuple[str, ...] = LANES, rate: float | Mapping[str, float] = 10,
        timeout: float | Mapping[str, float] = 2, first: int = 0, layer: str = "alive",
        warm: float = 0) -> Probes:
    """Return the probes that ask the lab's VIP, ready for `with`.

    Parameters
    ----------
    lanes : of `maps`, `features` (WFS), `sql_read` and `sql_write` (through Pgpool) and
        `write_primary` (straight to the primary).
    rate : float, questions per second for each lane; at ten, a gap is known to 0.1 s. Or lane
        -> float.
    timeout : float, seconds for a statement, and for a connection; or lane -> float. A map may
        take longer, as people have more patience than programs, up to PATIENCE.
    first : int, the number of the first row written; each lane has HALF numbers of its own.
    layer : what the maps show; `alive` is in every lab, `countries` needs the data.
    warm : see Probes; the rows that are written until then have numbers below 0, which no run
        reads.
    """
    def http(url: str, judge, wait: float) -> Maps:
        return Maps(url, judge=judge, timeout=max(wait, PATIENCE), connect=wait)

    read = "select id, st_astext(geom) from lab.alive"
    make = {
        "maps": lambda wait: http(map_url(lab.maps_url, layer), judge_png, wait),
        "features": lambda wait: http(feature_url(lab.maps_url), judge_features, wait),
        "sql_read": lambda wait: Sql(_dsn(lab, "reader", lab.ports.sql), read, timeout=wait),
        "sql_write": lambda wait: _writer(lab, lab.ports.sql, timeout=wait, first=first),
        "write_primary": lambda wait: _writer(lab, lab.ports.primary, timeout=wait,
                                              first=first + HALF),
    }
    return Probes({lane: make[lane](_of(lane, timeout)) for lane in lanes}, rate=rate, warm=warm)


def writers(lab: Lab, *, rate: float = 5, timeout: float = 2, first: int = 0) -> Probes:
    """Return probes that only write: through the VIP on both ways, and at each Pi's own door.

    While the network is cut, each side has its own HAProxy, and perhaps its own idea of who is
    primary. A client of that Pi would ask there; so one does, and what it is told is checked.

    Each worker has a few connections, as a program has: many new ones at a time would keep a busy
    database from coming back, and what is to be found here is what it forgets.
    """
    doors = {"sql_write": (lab.vip, lab.ports.sql), "write_primary": (lab.vip, lab.ports.primary)}
    doors |= {f"at_{m.name}": (m.address, lab.ports.primary) for m in lab.machines}
    return Probes({lane: _writer(lab, port, host=host, timeout=timeout, first=first + i * HALF)
                   for i, (lane, (host, port)) in enumerate(doors.items())},
                  rate=rate, limit=4)


def _writer(lab: Lab, port: int, *, timeout: float, first: int, host: str | None = None) -> Sql:
    insert = ("insert into lab.writes (id, geom) values "
              "(%s, st_setsrid(st_makepoint(%s, %s), 4326)) returning id, " + history.SERVER)
    return Sql(_dsn(lab, "gis", port, host), insert, timeout=timeout, first=first,
               values=lambda row: (row, *history.place(row)))


def _of(lane: str, value: float | Mapping[str, float]) -> float:
    return value[lane] if isinstance(value, Mapping) else value


def _dsn(lab: Lab, role: str, port: int, host: str | None = None) -> str:
    return make_conninfo(
        host=host or lab.vip, port=port, dbname="gis", user=role, gssencmode="disable",
        password=lab.secret(f"{role}_password"), application_name="gislab-probe")

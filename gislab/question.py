"""The questions that probes ask: a map, a feature, one SQL statement; and what counts as what.

- `ok`: the whole and right answer. A write is ok only when its commit was acknowledged.
- `failed`: it certainly did not happen: no connection, or an error that the server raises before
  the commit.
- `unknown`: it was sent and no answer came: it may have happened. A write whose connection broke
  is unknown, and the rows found afterwards decide.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import struct
import traceback
import zlib
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlencode

import httpx
import psycopg

WIDTH = HEIGHT = 64  # of the map asked for, in pixels
MAKING = 2  # connections that a lane makes at a time; a log-in costs both sides a key derivation
PACE = 0.25  # seconds without a new one, after which it begins one more beside these
MOST = 16  # and has, at most
LATE = 10.0  # seconds for which an answer is awaited that is too late for its question

# Errors that PostgreSQL raises before a commit can have happened (Appendix A, "Error Codes"):
# 08001/08004 connection refused, 22 data, 23 constraint, 25 read-only, 28 login, 3D no such
# database, 3F no such schema, 40001/40P01 rolled back, 42 syntax or privilege, 53 out of
# resources, 57P03 cannot connect now. Anything else, 57P01 (shutdown) too, proves nothing: a
# shutdown can come after the local commit, while the synchronous replica is being waited for.
_REFUSALS = ("08001", "08004", "22", "23", "25", "28", "3D", "3F", "40001", "40P01", "42", "53",
             "57P03")


class Failed(Exception):
    """The question certainly had no effect; the text says why."""


class Unknown(Exception):
    """The question was sent and not answered: it may have had its effect."""


class Question(Protocol):
    """One kind of question. `ask` returns a detail, or raises Failed or Unknown.

    `timeout` : float, seconds, after which `ask` has given up by itself.
    """

    timeout: float

    async def ask(self, number: int) -> str: ...

    def row(self, number: int) -> int | None: ...

    async def close(self) -> None: ...


class Maps:
    """A question over HTTP; ok only if `judge` finds nothing wrong with the answer.

    Parameters
    ----------
    timeout, connect : float, seconds to wait for an answer, and of these for a connection.
    """

    def __init__(self, url: str, *, timeout: float, judge: Callable[[httpx.Response], str],
                 connect: float | None = None):
        self.url, self.timeout, self._judge = url, timeout, judge
        # One client for all questions (making one is dear), yet no connection is kept.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, connect=connect or timeout), trust_env=False,
            verify=False, limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Connection": "close"})

    async def ask(self, number: int) -> str:
        try:
            # httpx's own limit is for each read; this one is for the whole answer.
            async with asyncio.timeout(self.timeout):
                return self._judge(await self._client.get(self.url))
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Failed("no connection in time") from None
        except (httpx.TimeoutException, TimeoutError):
            raise Unknown("no answer in time") from None
        except httpx.HTTPError as error:
            raise Failed(f"{type(error).__name__}: {error}") from None

    def row(self, number: int) -> None:
        return None

    async def close(self) -> None:
        await self._client.aclose()


class Sql:
    """One statement over a pool of persistent connections; see the module's text.

    A question takes a connection that is idle, or the first that becomes free or is made. MAKING
    are being made at a time, and one more after each PACE in which none began, so that a hanging
    one keeps nobody from finding the end of an outage. Each has the same patience as a question,
    and is kept even if the question that asked for it has given up. So is a connection whose
    answer is late, until that has come: to close it and log in anew would give a busy server more
    to do, and it does what it was asked in any case. (psycopg_pool pauses ever longer between its
    attempts; the end of an outage would be found late.)

    Parameters
    ----------
    dsn : a connection string of libpq.
    statement : its answer must hold a row. A write is given `values(number)`; the last column of
        its answer is the detail that is kept.
    first : int, the first number of a write, counted up; None for a read.
    """

    def __init__(self, dsn: str, statement: str, *, timeout: float, first: int | None = None,
                 values: Callable[[int], tuple] = lambda row: (row,)):
        self.dsn, self.statement, self.timeout, self.first = dsn, statement, timeout, first
        self._values = values
        self._idle: list[psycopg.AsyncConnection] = []
        self._waiting: list[asyncio.Future] = []  # who waits for a connection, the oldest first
        self._making: set[asyncio.Task] = set()
        self._begun = 0.0  # when the youngest of them began, on the clock of the loop
        self._late: set[asyncio.Task] = set()  # answers that come too late for their questions
        self._open: set[psycopg.AsyncConnection] = set()

    def row(self, number: int) -> int | None:
        if self.first is None or number < 0:  # below 0: asked only to be warm, see probe.Probes
            return None if self.first is None else number
        return self.first + number

    async def ask(self, number: int) -> str:
        end = asyncio.get_running_loop().time() + self.timeout
        connection = self._take() or await self._wait()
        row = self.row(number)
        values = None if row is None else self._values(row)
        task = asyncio.create_task(self._answer(connection, values))
        left = end - asyncio.get_running_loop().time()
        try:
            done, _ = await asyncio.wait({task}, timeout=max(left, 0.01))
        except asyncio.CancelledError:  # a machine so busy that the probe gave up first
            self._await(connection, task)
            raise
        if not done:
            self._await(connection, task)
            raise Unknown("no answer in time")
        try:
            answer = task.result()
        except psycopg.Error as error:
            self._drop(connection)
            if not (error.sqlstate or isinstance(error, psycopg.OperationalError)):
                raise  # psycopg's own complaint about the statement: no answer at all
            said = f"{error.sqlstate or type(error).__name__}: {' '.join(str(error).split())}"
            # A transport error carries no code; nor is every code proof of a rollback.
            kind = Failed if (error.sqlstate or "").startswith(_REFUSALS) else Unknown
            raise kind(said) from None
        self._give(connection)
        if answer is None:
            raise Failed("an answer without a row")
        return "" if row is None else str(answer[-1])

    def _await(self, connection: psycopg.AsyncConnection, task: asyncio.Task) -> None:
        """Keep a connection whose question has given up, if its answer comes after all."""
        # Not cancelled: psycopg would first try, for seconds, to cancel at the server.
        # The socket is shut instead, and the task ends by itself.
        end = asyncio.get_running_loop().call_later(LATE, _shut, connection)
        self._late.add(task)

        def answered(task: asyncio.Task) -> None:
            end.cancel()
            self._late.discard(task)
            if task.cancelled() or task.exception():
                self._drop(connection)
            else:
                self._give(connection)
        task.add_done_callback(answered)

    async def _answer(self, connection, values: tuple | None) -> tuple | None:
        cursor = await connection.execute(self.statement, values)
        return await cursor.fetchone()

    def _take(self) -> psycopg.AsyncConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not select.select([connection.pgconn.socket], [], [], 0)[0]:
                return connection
            self._end(connection)  # readable while idle: the other side has closed it
        return None

    async def _wait(self) -> psycopg.AsyncConnection:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._make()
        try:
            await asyncio.wait({place}, timeout=self.timeout)
        except asyncio.CancelledError:  # in the moment in which it was given one
            if place.done() and not place.exception():
                self._give(place.result())
            raise
        finally:
            place.cancel()
        if place.cancelled():
            raise Failed("no connection in time")
        return place.result()

    def _next(self) -> asyncio.Future | None:
        self._waiting = [place for place in self._waiting if not place.done()]
        return self._waiting.pop(0) if self._waiting else None

    def _give(self, connection: psycopg.AsyncConnection) -> None:
        place = self._next()
        if place:
            place.set_result(connection)
        else:
            self._idle.append(connection)

    def _make(self) -> None:
        waiting = sum(not place.done() for place in self._waiting)
        room = MOST - len(self._open)
        now = asyncio.get_running_loop().time()
        for _ in range(min(waiting, room) - len(self._making)):
            if len(self._making) >= MAKING and now < self._begun + PACE:
                return  # the next question that waits looks again
            self._begun = now
            task = asyncio.create_task(self._connect())
            self._making.add(task)
            task.add_done_callback(self._made)

    def _made(self, task: asyncio.Task) -> None:
        self._making.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._open.add(task.result())
            self._give(task.result())
        elif not isinstance(error, TimeoutError):  # then who waits gives up by himself
            place = self._next()
            if place:
                place.set_exception(error)
        self._make()

    async def _connect(self) -> psycopg.AsyncConnection:
        try:
            async with asyncio.timeout(self.timeout):
                # Two statements of one connection never share a plan: no prepared statements,
                # which Pgpool would have to carry from one backend to the next.
                return await psycopg.AsyncConnection.connect(
                    self.dsn, autocommit=True, prepare_threshold=None)
        except TimeoutError as error:
            _free(error.__cause__)
            raise
        except asyncio.CancelledError as error:
            _free(error)
            raise
        except psycopg.Error as error:
            raise Failed(f"no connection: {' '.join(str(error).split())}") from None

    def _drop(self, broken: psycopg.AsyncConnection) -> None:
        """Close a connection that broke, and all that are idle: they may have the same fault."""
        for connection in (broken, *self._idle):
            self._end(connection)
        self._idle = []
        self._make()  # there is room now

    def _end(self, connection: psycopg.AsyncConnection) -> None:
        connection.pgconn.finish()
        self._open.discard(connection)

    async def close(self) -> None:
        for task in self._making:
            task.cancel()
        if self._making:
            await asyncio.wait(self._making)
        for connection in self._open:
            _shut(connection)  # so that what waits for an answer ends
        if self._late:
            await asyncio.wait(self._late)
        for connection in list(self._open):
            self._end(connection)


def _free(error: BaseException | None) -> None:
    """Let go of a connection that was given up while it was being made.

    Nobody holds it but the frames of the error, and those may live until Python looks for cycles.
    Its socket would be a client who says nothing more, and has a place in Pgpool for seconds.
    """
    if error is not None:
        traceback.clear_frames(error.__traceback__)


def map_url(base: str, layer: str = "alive") -> str:
    """Return the address of a small WMS 1.3 map around 0, 0 (OGC 06-042, 7.3)."""
    return f"{base}/ows?" + urlencode({
        "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "LAYERS": layer,
        "STYLES": "", "CRS": "EPSG:4326", "BBOX": "-16,-16,16,16", "WIDTH": WIDTH,
        "HEIGHT": HEIGHT, "FORMAT": "image/png"})


def feature_url(base: str, layer: str = "alive") -> str:
    """Return the address of one WFS 2.0 feature as GeoJSON."""
    return f"{base}/ows?" + urlencode({
        "SERVICE": "WFS", "VERSION": "2.0.0", "REQUEST": "GetFeature", "TYPENAMES": layer,
        "COUNT": 1, "OUTPUTFORMAT": "application/json"})


def judge_png(answer: httpx.Response) -> str:
    """Return "" for a whole PNG of the asked size; Failed names what came instead."""
    if answer.status_code != 200:
        raise Failed(f"HTTP {answer.status_code}")
    fault = png_fault(answer.content, WIDTH, HEIGHT)
    if fault:  # a map server tells its errors in XML, with status 200
        raise Failed(f"{fault}: {' '.join(answer.text.split())[:120]}"
                     if "text" in answer.headers.get("content-type", "") else fault)
    return ""


def judge_features(answer: httpx.Response) -> str:
    """Return "" if the answer is GeoJSON with a feature; else raise Failed."""
    if answer.status_code != 200:
        raise Failed(f"HTTP {answer.status_code}")
    try:
        found = json.loads(answer.content).get("features")
    except (ValueError, AttributeError):
        raise Failed("not GeoJSON") from None
    if not found:
        raise Failed("no feature")
    return ""


def png_fault(data: bytes, width: int, height: int) -> str:
    """Say what keeps `data` from being a whole PNG of this size; "" if nothing does.

    Every chunk's checksum is verified, up to the end (PNG, W3C, sections 5.3 and 5.6).
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return "not a PNG"
    at, kind = 8, b""
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if data[at + 8 + length:at + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
            return "a damaged or cut PNG"
        if kind == b"IHDR" and struct.unpack(">II", body[:8]) != (width, height):
            return "a PNG of another size"
        at += 12 + length
    return "" if kind == b"IEND" and at == len(data) else "a cut PNG"


def _shut(connection: psycopg.AsyncConnection) -> None:
    try:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as handle:
            handle.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        connection.pgconn.finish()

"""A lab of three Pis that only remember what they were told, for tests without an engine."""

from __future__ import annotations

import json
from pathlib import Path

from gislab import consul


class Pis(list):
    """The Pis' remotes, in order, in the place of those that `nodes.all` would make."""

    def answer(self, *words: str, out="") -> None:
        """Have every Pi answer a command from now on."""
        for remote in self:
            remote.answers[words] = out

    def sent(self, *words: str) -> list[tuple[str, str]]:
        """Return (Pi, command) of all commands that begin with `words`."""
        return [(remote.name, " ".join(command)) for remote in self
                for command in remote.commands if command[:len(words)] == words]

    def forget(self) -> None:
        for remote in self:
            remote.commands.clear()
            remote.inputs.clear()


def node_ls(*managers: str, down=(), lost=(), workers=()) -> str:
    """What `docker node ls --format '{{json .}}'` of Docker 26.1 says of pi1 to pi3.

    `down`: without power; `lost`: they are heard as managers, but not as those who run tasks.
    """
    def status(name: str, alive: str) -> str:
        return "" if name in workers else "Unreachable" if name in down else alive
    return "\n".join(
        f'{{"Availability":"Active","EngineVersion":"26.1.5+dfsg1","Hostname":"{name}",'
        f'"ID":"{name}xq4b0","ManagerStatus":"{status(name, alive)}",'
        f'"Self":false,"Status":"{"Down" if name in (*down, *lost) else "Ready"}",'
        f'"TLSStatus":"Ready"}}'
        for name, alive in zip(managers, ["Leader", "Reachable", "Reachable"], strict=False))

# As Patroni 4.0.7 answered GET /cluster on the virtual lab, shortened by api_url.
CLUSTER = {"members": [
    {"name": "postgis2", "role": "leader", "state": "running", "host": "postgis2", "port": 5432,
     "timeline": 3},
    {"name": "postgis1", "role": "quorum_standby", "state": "streaming", "host": "postgis1",
     "port": 5432, "timeline": 3, "lag": 0},
    {"name": "postgis3", "role": "replica", "state": "starting", "host": "postgis3", "port": 5432,
     "lag": "unknown"}], "scope": "gislab"}


def said(cluster):
    return "HTTP/1.0 200 OK\nContent-Type: application/json\n\n" + json.dumps(cluster)


def stand_in(path: Path, text: str) -> None:
    """Put a script where a program would be found, in the place of that program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Store:
    """Stands for Consul: one key that is checked and set, and reports."""

    def __init__(self, line="7 abc 1\n"):
        self.line, self.index, self.reports, self.before = line, 5, [], lambda: None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def get(self, key):
        return consul.Entry(key, self.line.encode(), self.index) if self.line else None

    def set(self, line):
        self.line, self.index = line, self.index + 1

    def commit(self, *steps):
        self.before()
        step = steps[-1]
        if step["Index"] != (self.index if self.line else 0):
            return False
        self.set(consul.base64.b64decode(step["Value"]).decode())
        return True

    def list(self, prefix):
        return [consul.Entry(prefix, json.dumps(r).encode(), 1) for r in self.reports]

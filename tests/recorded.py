"""A lab of three Pis that only remember what they were told, for tests without an engine."""

from __future__ import annotations


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


def node_ls(*managers: str, down=()) -> str:
    """What `docker node ls --format '{{json .}}'` of Docker 26.1 says of pi1 to pi3."""
    return "\n".join(
        f'{{"Availability":"Active","EngineVersion":"26.1.5+dfsg1","Hostname":"{name}",'
        f'"ID":"{name}xq4b0","ManagerStatus":"{"Unreachable" if name in down else status}",'
        f'"Self":false,"Status":"{"Down" if name in down else "Ready"}","TLSStatus":"Ready"}}'
        for name, status in zip(managers, ["Leader", "Reachable", "Reachable"], strict=False))

"""What a fault is: a name and a colour, how it strikes, how it is undone, and what to look for.

`aim` looks for the victim and brings the lab into the state that the fault needs; `strike`
breaks; `undo` mends and waits until the lab is whole. `with` calls all three, and keeps a journal
from before the first to after the last: whatever ends this program, the next command undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from .. import journal, nodes
from ..settings import Lab
from ..victims import FaultError, Target

# How a fault is undone, on virtual Pis and on real ones.
SWARM = "Swarm starts another container, unasked"
PATRONI = "Patroni starts it again, as a replica of the new primary"
THAW = "what was frozen goes on"
RULES = "the rules are taken out again on every Pi; a reboot takes them out, too"
POWER = "the power is given back, and the Pi boots"
CABLE = "the cable's carrier is given back"
SAME = "the same"
BY_HAND_POWER = "you are asked to pull the plug, and to put it back; each is waited for"
BY_HAND_CABLE = "you are asked to pull the network cable, and to put it back; each is waited for"


@dataclass
class Fault:
    """One fault, ready to be made. `touches` names the parts that it can disturb."""

    lab: Lab
    name: str
    title: str
    colour: str
    touches: tuple[str, ...]
    find: Callable[[Lab], Target] = field(repr=False)
    hit: Callable[[Lab, Target], None] = field(repr=False)
    mend: Callable[[Lab, Target], None] = field(repr=False)
    target: Target | None = None
    setup: str = ""  # of what it is a part: empty for ours, "2016"
    see: str = ""  # what a client, or `gislab status`, is to show of it
    undone: str = ""  # how, on virtual Pis ...
    on_pis: str = SAME  # ... and on real ones
    wide: bool = False  # it is meant to strike more Pis than a majority can do without
    force: bool = False  # strike although the rest would be no majority
    _open: AbstractContextManager | None = field(default=None, init=False, repr=False)

    def aim(self) -> Target:
        """Choose the victim, once; FaultError if there is none, or if too much is broken."""
        if self.target is None:
            found = self.find(self.lab)
            self._spare_a_majority(found)
            self.target = found
        return self.target

    def strike(self) -> None:
        """Break it; returns when it is broken."""
        self.hit(self.lab, self.aim())

    def undo(self) -> None:
        """Mend it and wait until the lab is whole; safe to repeat, and where nothing broke."""
        if self.target is not None:
            self.mend(self.lab, self.target)

    def remember(self) -> None:
        """Write into the journal what is about to be broken, so that anybody can undo it."""
        journal.remember(self.lab, {"fault": self.name, "target": vars(self.aim()),
                                    "setup": self.setup})

    @contextmanager
    def broken(self, note: Callable[[str, str], None] = lambda kind, what: None
               ) -> Iterator[Target]:
        """Strike for the length of the block, and undo it at its end, also at a bad one.

        If the undoing is interrupted too, or this program dies, the journal makes the next
        command of this lab undo it.

        Parameters
        ----------
        note : told each event of run.Run.events: its kind, and what is struck.

        Raises
        ------
        journal.AtWork : another program breaks the lab at this moment; nothing was struck.
        """
        with journal.claimed(self.lab):
            target = self.aim()
            self.remember()
            try:
                note("strike", target.what)
                self.strike()
                note("struck", target.what)
                yield target
            finally:  # an interrupt of `strike`, too: it may have been broken already
                note("undo", target.what)
                self.undo()
                note("undone", target.what)
                journal.forget(self.lab)

    def _spare_a_majority(self, target: Target) -> None:
        """Refuse what comes on top of another failure, and leaves too few Pis to go on."""
        if self.force:
            return
        names = [machine.name for machine in self.lab.machines]
        silent = set(names) - {node.name for node in nodes.alive(self.lab)}
        struck = silent if self.wide else silent | (set(target.nodes) & set(names))
        if len(struck) > (0 if self.wide else (len(names) - 1) // 2):
            raise FaultError(
                f"{self.name} would strike {target.what}"
                + (f" while {', '.join(sorted(silent))} does not answer" if silent else "")
                + ": the rest would be no majority, and might need you to mend it. See: gislab "
                "status; or do it all the same: --force, in Python named(..., force=True)")

    def __enter__(self) -> Fault:
        self._open = self.broken()
        self._open.__enter__()
        return self

    def __exit__(self, *ended) -> bool | None:
        return self._open.__exit__(*ended)

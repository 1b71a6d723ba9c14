"""The agents that joined from elsewhere, as links; found and lost by their rows and by their answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from cython_shuffle.transport import ClientPool
from sabotd.control.agents import SILENCE_S, Agent, RemoteAgent
from sabotd.control.members import Member, MemberTable

log = logging.getLogger("sabot.members")

LOOK_EVERY_S = 1.0
_FORGET_S = 3600.0
_GAP_S = 3.0
"""Looks that lie further apart had the database away between them, and the agents' beats likewise."""
_GRACE_S = 2 * SILENCE_S
"""How long agents have then to beat again before an old beat counts; their connections have to be made anew."""


class RemoteAgents:
    """Looks at the table of members once a second.

    While the database is away nothing changes: who is there stays, and streams break by themselves if one is not. Nor
    do beats count when it is back, until everybody had the time for one: only an agent that does not answer is lost.
    """

    def __init__(
        self,
        table: MemberTable,
        clients: ClientPool,
        on_lost: Callable[[str, str], None],
        on_running: Callable[[Agent, Mapping[str, int]], None],
    ) -> None:
        self._table = table
        self._clients = clients
        self._on_lost = on_lost
        self._on_running = on_running
        self._lock = threading.Lock()
        self._links: dict[str, RemoteAgent] = {}  # by incarnation
        self._members: dict[str, Member] = {}
        self._looked: float | None = None
        self._back_since = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="members", daemon=True)

    def start(self) -> None:
        """Look, and go on looking."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """End; the agents stay, and wait for the next daemon."""
        self._stopping.set()
        self._thread.join()
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            link.close()

    def all(self) -> list[RemoteAgent]:
        """Return the links, by name."""
        with self._lock:
            return sorted(self._links.values(), key=lambda a: a.agent_id)

    def member(self, agent_id: str) -> Member | None:
        """Return what an agent said of itself when it joined."""
        with self._lock:
            return next((m for m in self._members.values() if m.agent_id == agent_id), None)

    def incarnation(self, agent_id: str) -> str | None:
        """Return the incarnation of an agent."""
        member = self.member(agent_id)
        return member.incarnation if member is not None else None

    def drain(self, incarnation: str) -> bool:
        """Give the agent no more tasks; False if it is gone."""
        if not self._table.move(incarnation, ("UP", "DRAINING"), "DRAINING"):
            return False
        self._look()
        return True

    def let_go(self, incarnation: str) -> None:
        """Tell a drained agent to leave: its next beat says so."""
        if self._table.move(incarnation, ("DRAINING",), "LEFT"):
            self._look()

    def _run(self) -> None:
        away = False
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self._look()
                self._table.forget_older(_FORGET_S)
                for agent_id, location, reason in self._table.take_refusals():
                    log.warning("agent %s at %s is refused: %s", agent_id, location, reason)
            except sa.exc.DBAPIError as error:
                if not away:
                    log.warning("the control database does not answer: %s", error.orig)
                away = True
            else:
                if away:
                    log.info("the control database answers again")
                away = False

    def _look(self) -> None:
        present = {m.incarnation: m for m in self._table.present()}
        now = time.monotonic()
        if self._looked is not None and now - self._looked > _GAP_S:
            self._back_since = now
        self._looked = now
        if now - self._back_since > _GRACE_S:
            silent = [m for m in present.values() if m.silent_s > SILENCE_S]
            for member in silent:
                self._declare_lost(member, f"no sign of life for {member.silent_s:.0f} s")
                del present[member.incarnation]
        with self._lock:
            gone = [i for i in self._links if i not in present]
            new = [m for i, m in present.items() if i not in self._links]
            for incarnation, member in present.items():
                if incarnation in self._links:
                    self._members[incarnation] = member
                    if self._links[incarnation].state != "LOST":
                        self._links[incarnation].state = member.state
        for member in new:
            self._add(member)
        for incarnation in gone:
            self._remove(incarnation)

    def _add(self, member: Member) -> None:
        def silent() -> bool:
            try:
                self._declare_lost(member, f"it has not answered for {SILENCE_S:.0f} s")
            except sa.exc.DBAPIError:
                return False  # nobody is declared dead while the database is away
            return True

        link = RemoteAgent(
            member.agent_id,
            member.location,
            member.pid,
            member.slots,
            self._clients,
            silent,
            self._on_running,
            outlives=True,
        )
        link.state = member.state
        with self._lock:
            self._links[member.incarnation] = link
            self._members[member.incarnation] = member
        log.info("agent %s at %s has joined", member.agent_id, member.location)

    def _declare_lost(self, member: Member, reason: str) -> None:
        if self._table.move(member.incarnation, ("UP", "DRAINING"), "LOST"):
            log.error("agent %s at %s is lost: %s", member.agent_id, member.location, reason)

    def _remove(self, incarnation: str) -> None:
        with self._lock:
            link = self._links.pop(incarnation)
            self._members.pop(incarnation, None)
        link.lose()
        self._on_lost(link.agent_id, "declared dead, or left")

"""All agents that take tasks: the daemon's own children, and those that joined from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from sabotd.control.agents import ChildAgents, RemoteAgent
from sabotd.control.members import Member
from sabotd.control.remote_agents import RemoteAgents


@dataclass(frozen=True)
class Roster:
    """Asks both kinds. An agent's incarnation tells one start of it from the next."""

    children: ChildAgents
    remote: RemoteAgents

    def all(self) -> list[RemoteAgent]:
        """Return the agents, children first, each kind by name."""
        return [*self.children.all(), *self.remote.all()]

    def member(self, agent_id: str) -> Member | None:
        """Return what an agent that joined from elsewhere said of itself."""
        return self.remote.member(agent_id)

    def incarnation(self, agent_id: str) -> str | None:
        """Return an agent's incarnation; None if it is not there."""
        return self.children.incarnation(agent_id) or self.remote.incarnation(agent_id)

    def stop_placing(self, agent_id: str, incarnation: str) -> bool:
        """Give an agent no more tasks; False if this incarnation of it is gone."""
        return self.children.drain(agent_id, incarnation) or self.remote.drain(incarnation)

    def let_go(self, agent_id: str, incarnation: str) -> None:
        """End a drained agent; nothing happens if it is gone."""
        self.children.let_go(agent_id, incarnation)
        self.remote.let_go(incarnation)

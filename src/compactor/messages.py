"""The values that travel between the wire and the processes: `Message` for users, `Envelope` inside."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .pid import PID

BodyT = TypeVar("BodyT")


@dataclass(frozen=True, slots=True)
class Message(Generic[BodyT]):
    """What an `ask` gives: one message that came as the answer.

    Attributes:
        sender: the PID that sent it.
        name: its message name.
        body: its content.
    """

    sender: PID
    name: str
    body: BodyT


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was not delivered, or whose delivery is not known, and why.

    Attributes:
        sender, to, name: as they were sent; `to` has the local address for what came from elsewhere.
        size: bytes of the body, None where it is not known any more.
        reason: "no such process", "connection refused", "terminated", ...
        time: seconds since the epoch.
    """

    sender: PID
    to: PID
    name: str
    size: int | None
    reason: str
    time: float = field(default_factory=time.time)


class Envelope:
    """Who sends what to whom, without the body: what one head says, made once and shared by all messages with it.

    A message in a mailbox is the pair (envelope, body), so a message costs one tuple. Immutable by convention.

    Attributes:
        sender: the PID the message says it comes from; `NOBODY` for a post without a sender.
        id: the id of the process it is for, decoded.
        name: the message name, as on the wire.
    """

    __slots__ = ("id", "name", "sender")

    def __init__(self, sender: PID, id_: str, name: str) -> None:
        self.sender = sender
        self.id = id_
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name!r} from {self.sender} to {self.id!r}>"

"""The values that travel between the wire and the processes: `Message` for users, `Envelope` inside."""

from __future__ import annotations

from dataclasses import dataclass
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

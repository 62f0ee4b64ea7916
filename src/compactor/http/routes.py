"""The paths that the processes of one class serve: `RouteTable`.

A path is looked up by whole segments, from the longest installed prefix down, as libprocess does: `/a` serves `/a/b`
unless `/a/b` is installed; slashes at both ends of the looked-up path do not count; `/` serves the process's own path
and nothing below it. At each length the segments are first compared as the client sent them, then percent-decoded one
by one, so that an escaped slash never separates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from ..wire import grammar

HandlerT = TypeVar("HandlerT")

DEFAULT_METHODS: Final = frozenset({"GET", "HEAD"})
"""What a route serves unless it says otherwise."""

_FORBIDDEN = re.compile(r"[?#\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def split_target(path: str) -> tuple[str, str]:
    """Split the path of a request, which starts with `/`, into the id's segment as sent and what follows it.

    What follows starts with `/` or is empty: `/id/a/b` gives `("id", "/a/b")`, `/id` gives `("id", "")`.
    """
    segment, slash, rest = path[1:].partition("/")
    return segment, slash + rest


def allow(methods: frozenset[str]) -> str:
    """Return the value of the `Allow` header of a route: exactly what it serves, in alphabetical order."""
    return ", ".join(sorted(methods))


def check_path(path: str) -> str:
    """Return the path of a route without a trailing slash.

    Raises:
        ValueError: no request could reach it.
    """
    if not path.startswith("/"):
        raise ValueError(f"the route {path!r} does not start with '/': write {'/' + path!r}")
    found = _FORBIDDEN.search(path)
    if found is not None:
        raise ValueError(
            f"the route {path!r} holds {found.group()!r}: leave out the query and the fragment, "
            "and use no white space or control characters"
        )
    if "//" in path:
        raise ValueError(f"the route {path!r} has an empty segment: write single slashes")
    return path.rstrip("/") or "/"


class RouteTable(Generic[HandlerT]):
    """Finds the route of a path. Read-only once made: any thread.

    Args:
        routes: path -> (methods, handler); of two paths that differ in a trailing slash only, the later one counts.

    Raises:
        ValueError: as `check_path` says.
    """

    __slots__ = ("_deepest", "_routes")

    def __init__(self, routes: Mapping[str, tuple[frozenset[str], HandlerT]]) -> None:
        self._routes: dict[tuple[str | None, ...], tuple[HandlerT, frozenset[str]]] = {
            _segments(check_path(path)): (handler, methods) for path, (methods, handler) in routes.items()
        }
        self._deepest = max(map(len, self._routes), default=0)

    def __len__(self) -> int:
        return len(self._routes)

    def find(self, path: str) -> tuple[HandlerT, frozenset[str]] | None:
        """Return the handler and the methods of the route that serves `path`, which is what follows `/<id>`."""
        # Not split further than any route reaches: a request of thousands of slashes costs no more than another.
        raw = _segments(path, self._deepest)
        if not raw:
            return self._routes.get(())
        decoded = tuple(map(_decode, raw))
        for length in range(min(len(raw), self._deepest), 0, -1):
            found = self._routes.get(raw[:length]) or self._routes.get(decoded[:length])
            if found is not None:
                return found
        return None


def _segments(path: str, most: int = -1) -> tuple[str, ...]:
    stripped = path.strip("/")
    return tuple(stripped.split("/", most)) if stripped else ()


def _decode(segment: str) -> str | None:
    """Return the segment percent-decoded, or None, which equals no installed segment, when an escape is malformed."""
    if not grammar.ESCAPED.fullmatch(segment):
        return None
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None

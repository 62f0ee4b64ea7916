r"""The grammar of HTTP/1.x as compiled patterns: what may stand in a head, a chunk line and a Host.

Sources: RFC 9110 5.5 and 5.6 (field values, tokens, quoted strings), RFC 9112 2 to 7 (lines, targets, chunks), RFC 3986
3.2 (authority). Stricter than the RFCs where they let a recipient choose: a line ends with CRLF only, no folded lines,
no white space around the parts of a chunk line.

All repetitions are possessive or bounded by a class that ends them, so no input makes a pattern backtrack for long.
Patterns of bytes judge; patterns of text take apart what was judged and decoded as latin-1.
"""

from __future__ import annotations

import re
from typing import Final

_TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_VALUE: Final = r"[\t -~\x80-\xff]*+"
_FIELDS: Final = rf"(?:{_TCHAR}++:{_VALUE}\r\n)*+"
_QUOTED: Final = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_HOST: Final = r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]++)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*+)"
# Every beginning of "HTTP/1.x" CR; the innermost part comes last.
_VERSION_BEGUN: Final = r"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01]\r?)?)?)?)?)?)?)?)?"


def _bytes(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode("ascii"))


REQUEST_HEAD: Final = _bytes(rf"({_TCHAR}++) ([!-~]++) HTTP/1\.([01])\r\n({_FIELDS})\r\n")
"""A whole request head; groups: method, target, minor version, header lines."""

REQUEST_BEGUN: Final = _bytes(
    rf"{_TCHAR}*+(?: [!-~]*+)?|{_TCHAR}++ [!-~]++ {_VERSION_BEGUN}"
    rf"|{_TCHAR}++ [!-~]++ HTTP/1\.[01]\r\n{_FIELDS}(?:{_TCHAR}*+|{_TCHAR}++:{_VALUE}\r?|\r)"
)
"""Anything that more bytes could make a REQUEST_HEAD."""

REQUEST_LINE: Final = _bytes(rf"{_TCHAR}++ [!-~]++ HTTP/1\.[01]")
"""A request line that is well formed, without its CRLF."""

ANY_VERSION: Final = _bytes(rf"{_TCHAR}++ [!-~]++ HTTP/[0-9]++(?:\.[0-9]*+)?")
"""A request line of some version of HTTP, of which the last digits may be missing."""

ANSWER_HEAD: Final = _bytes(rf"HTTP/1\.([01]) ([1-5][0-9]{{2}})(?: {_VALUE})?\r\n({_FIELDS})\r\n")
"""A whole response head; groups: minor version, status, header lines. The reason is optional: libprocess leaves it out,
with its space, for a status that it does not know."""

FIELD_LINE: Final = _bytes(rf"({_TCHAR}++):{_VALUE}\r\n")
"""One header or trailer line; group: the name."""

CHUNK_LINE: Final = _bytes(rf"([0-9A-Fa-f]{{1,16}})(?:;{_TCHAR}++(?:=(?:{_TCHAR}++|{_QUOTED}))?)*+\r\n")
"""The line before a chunk; group: its size in hex."""

_FIELD: Final = re.compile(r"([^:]++):[\t ]*+([^\r]*+)\r\n")

TOKEN: Final = re.compile(rf"{_TCHAR}++")
"""One token."""

LENGTH: Final = re.compile(r"[0-9]{1,19}")
"""The value of a Content-Length that fits into 64 bits."""

HOST: Final = re.compile(rf"{_HOST}(?::[0-9]*+)?")
"""The value of a Host header; may be empty; group ipv6: what stands in brackets."""

ABSOLUTE: Final = re.compile(
    rf"(?i:https?)://(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?(?![:/?#]|\Z){_HOST}(?::[0-9]*+)?(?P<rest>(?:[/?#].*)?)"
)
"""An absolute-form target with a host that is not empty; group rest: from the path on."""

ESCAPED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*+")
"""A text in which every `%` begins an escape of two hex digits."""


def fields(lines: str) -> list[tuple[str, str]]:
    """Return name and value (without the white space around it) of each of `lines`, which FIELD_LINE accepts."""
    found: list[tuple[str, str]] = _FIELD.findall(lines)
    if " \r\n" in lines or "\t\r\n" in lines:  # rare, and a pattern that looks for it costs twice as much
        return [(name, value.rstrip("\t ")) for name, value in found]
    return found

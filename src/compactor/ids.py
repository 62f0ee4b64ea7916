"""Generated process ids: `prefix(N)`, counted per prefix and per OS process, never used twice."""

from __future__ import annotations

import threading
from collections import Counter

_counters: Counter[str] = Counter()
_lock = threading.Lock()


def unique_id(prefix: str = "") -> str:
    """Return `prefix(1)`, `prefix(2)`, ... as libprocess's ID::generate does. Any thread."""
    with _lock:
        _counters[prefix] += 1
        return f"{prefix}({_counters[prefix]})"

"""HTTP requests that are no messages: which route serves a path, and how a tornado handler answers it.

Law of this folder: it knows no sockets and no processes. `routes` and `exchange` decide and build bytes and import no
tornado; `tornado` is the only module that does. What happens on the connection is behind `exchange.Exchange`.
"""

"""The actor model, with no bytes and no sockets.

Law of this folder: it imports neither asyncio, socket, threading nor logging, nor `_aio`; of `wire` only the rule for
message names and of `http` only the path table, both pure. It decides what happens to values; `context` gives it what
it needs to act (a clock, a way to step coroutines, someone to tell). Every function is synchronous and is called on the
context's thread.
"""

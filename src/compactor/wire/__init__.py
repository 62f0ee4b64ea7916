"""The wire: bytes to values and back, and nothing else.

The law of this folder: sans-IO. Nothing in it knows a socket, asyncio, a logger, a clock or the environment; the same
bytes, cut anywhere, give the same values. What is malformed or ambiguous is refused, never guessed.
"""

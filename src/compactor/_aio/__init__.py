"""All that is asyncio: the loop, its thread, sockets, connections.

Law of this folder: it decides nothing about processes. It moves bytes between sockets and `wire`, and values between
`wire` and what `context` assembled from `_runtime`.
"""

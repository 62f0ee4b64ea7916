"""Stands in for the stub that the manual's protobuf fragment imports."""

from proto import RequestMessage, ResponseMessage

__all__ = ["RequestMessage", "ResponseMessage"]

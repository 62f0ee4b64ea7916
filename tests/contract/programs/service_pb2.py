"""Stands in for the stub that the manual's chapter on protocol buffer processes imports."""

from proto import ServiceRequestMessage, ServiceResponseMessage

__all__ = ["ServiceRequestMessage", "ServiceResponseMessage"]

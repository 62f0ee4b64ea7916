"""Protobuf classes for the tests, built at run time: proto2 with required fields, proto3, and the manual's stubs."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_REQUIRED, _OPTIONAL, _REPEATED = _Field.LABEL_REQUIRED, _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
_STRING, _INT32, _BYTES = _Field.TYPE_STRING, _Field.TYPE_INT32, _Field.TYPE_BYTES


def _build(package, syntax, messages):
    """Add a file with these messages to the default pool, where generated stubs are too; return class by name."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax=syntax)
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for number, (field_name, type_, label) in enumerate(fields, start=1):
            message.field.add(name=field_name, number=number, type=type_, label=label)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages
    }


_legacy = _build(
    "compactor.tests.legacy",
    "proto2",
    {
        "RegisterMessage": [("framework", _STRING, _REQUIRED), ("attempt", _INT32, _OPTIONAL)],
        "RegisteredMessage": [("id", _STRING, _REQUIRED), ("hosts", _STRING, _REPEATED)],
    },
)
RegisterMessage = _legacy["RegisterMessage"]
RegisteredMessage = _legacy["RegisteredMessage"]

_modern = _build(
    "compactor.tests.modern",
    "proto3",
    {
        "RequestMessage": [("text", _STRING, _OPTIONAL), ("numbers", _INT32, _REPEATED)],
        "ResponseMessage": [("text", _STRING, _OPTIONAL), ("data", _BYTES, _OPTIONAL)],
        "ServiceRequestMessage": [("text", _STRING, _OPTIONAL)],
        "ServiceResponseMessage": [("text", _STRING, _OPTIONAL)],
    },
)
RequestMessage = _modern["RequestMessage"]
ResponseMessage = _modern["ResponseMessage"]
ServiceRequestMessage = _modern["ServiceRequestMessage"]
ServiceResponseMessage = _modern["ServiceResponseMessage"]

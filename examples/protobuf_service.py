"""Messages that are protocol buffers: the type of a message is its name, on the wire too.

Start it with: python examples/protobuf_service.py

The types of your own program come from your .proto files; these two come with the protobuf package.
"""

from google.protobuf.struct_pb2 import ListValue
from google.protobuf.wrappers_pb2 import StringValue

from compactor import Context, ProtobufProcess


class Splitter(ProtobufProcess):
    """Answers a text with the list of its words."""

    @ProtobufProcess.install(StringValue)
    def split(self, from_pid, message):  # `message` is a StringValue
        words = ListValue()
        words.extend(message.value.split())
        self.reply(words)  # or self.send(from_pid, words)


service = Context(ip="127.0.0.1")
service.start()
splitter = service.spawn(Splitter("splitter"))

program = Context(ip="127.0.0.1")
program.start()
client = ProtobufProcess("client")
program.spawn(client)

# The answer is a protocol buffer of the type that it names.
answer = client.ask(splitter, StringValue(value="actors over the wire")).result()
print(f"{answer.DESCRIPTOR.full_name}: {list(answer)}")

program.stop()
service.stop()

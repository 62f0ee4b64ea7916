"""The manual's fragment on protobuf handlers; added: a value for the response, and a context to run it on."""

from compactor.process import ProtobufProcess
from messages_pb2 import RequestMessage, ResponseMessage

class PingProcess(ProtobufProcess):
    @ProtobufProcess.install(RequestMessage)
    def ping(self, from_pid, message):
        # do something with message, a RequestMessage
        response = ResponseMessage(text=message.text.upper())
        # send a protocol buffer which will get serialized on the wire.
        self.send(from_pid, response)

# added
import queue

from compactor.context import Context

class Client(ProtobufProcess):
    @ProtobufProcess.install(ResponseMessage)
    def response(self, from_pid, message):
        responses.put((from_pid, message))

responses = queue.SimpleQueue()
context = Context(ip='127.0.0.1')
ping_pid = context.spawn(PingProcess('ping'))
client = Client('client')
context.spawn(client)
client.send(ping_pid, RequestMessage(text='hello'))
assert responses.get(timeout=20) == (ping_pid, ResponseMessage(text='HELLO'))

"""The manual's chapter on protocol buffer processes; added: a value for the response, and two contexts to run it on."""

from compactor.process import ProtobufProcess
from service_pb2 import ServiceRequestMessage, ServiceResponseMessage

class Service(ProtobufProcess):
    @ProtobufProcess.install(ServiceRequestMessage)
    def request(self, from_pid, message):
        # message is a deserialized protobuf ServiceRequestMessage
        response = ServiceResponseMessage(text=message.text + ', served')
        # self.send automatically serializes the response, a protocol buffer, over the wire.
        self.send(from_pid, response)

# added
import queue

from compactor.context import Context

class Client(ProtobufProcess):
    @ProtobufProcess.install(ServiceResponseMessage)
    def response(self, from_pid, message):
        responses.put((from_pid, message))

responses = queue.SimpleQueue()
service_context = Context(ip='127.0.0.1')
client_context = Context(ip='127.0.0.1')
service_pid = service_context.spawn(Service('service'))
client = Client('client')
client_context.spawn(client)
client.send(service_pid, ServiceRequestMessage(text='request'))
assert responses.get(timeout=20) == (service_pid, ServiceResponseMessage(text='request, served'))

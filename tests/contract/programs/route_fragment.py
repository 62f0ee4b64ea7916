"""The manual's fragment on routes; added: a context to run it on, and a browser."""

from compactor.process import Process

class WebProcess(Process):
    @Process.route('/hello/world')
    def hello_world(self, handler):
        return handler.write('<html><title>hello world</title></html>')

# added
import urllib.request

from compactor.context import Context

context = Context(ip='127.0.0.1')
pid = context.spawn(WebProcess('web'))
with urllib.request.urlopen(pid.as_url('/hello/world'), timeout=20) as page:
    assert page.read() == b'<html><title>hello world</title></html>'

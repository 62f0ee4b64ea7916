"""HTTP routes: paths, methods, handlers of every form, and the live tornado `RequestHandler` that they get."""

import asyncio
import http.client
import json
import threading

import pytest
from helpers import DEADLINE, Holder, Recorder, in_thread, post, request
from tornado import gen, web

from compactor import Process, install, route


class Web(Recorder):
    """Routes of every form."""

    @route("/hello/world")
    def hello_world(self, handler):
        return handler.write("<html><title>hello world</title></html>")

    @Process.route("/one")
    @route("/two")
    def either(self, handler):
        handler.write(f"served {handler.request.path}")

    @route("/a")
    def a(self, handler):
        handler.write("a")

    @route("/a/b")
    def ab(self, handler):
        handler.write("ab")

    @route("/echo", methods=("POST", "PUT"))
    def echo(self, handler):
        handler.write(handler.request.method.encode() + b" " + handler.request.body)

    @route("/coroutine")
    async def coroutine(self, handler):
        handler.write("before ")
        await asyncio.sleep(0.01)
        handler.write("after")

    @route("/generator")
    def generator(self, handler):
        value = yield asyncio.sleep(0.01, "slept")
        handler.write(value)

    @route("/decorated")
    @gen.coroutine
    def decorated(self, handler):
        value = yield asyncio.sleep(0.01, "slept")
        handler.write(value)

    @route("/finished")
    def finished(self, handler):
        handler.finish("finished by hand")

    @route("/json")
    def json(self, handler):
        handler.set_status(201)
        handler.set_header("X-Mine", "mine")
        handler.write({"query": handler.get_argument("q"), "remote": handler.request.remote_ip})

    @route("/raises")
    def raises(self, handler):
        raise KeyError("deliberate")

    @route("/refuses")
    def refuses(self, handler):
        raise web.HTTPError(418)

    @route("/redirects")
    def redirects(self, handler):
        handler.redirect("/web/a")

    @route("/streams")
    async def streams(self, handler):
        for part in ("one ", "two ", "three"):
            handler.write(part)
            await handler.flush()

    @route("/both")
    def both(self, handler):
        handler.write("the page")

    @install("both")
    def both_message(self, from_pid, body):
        self.note(from_pid, body)

    @route("/silent")
    def silent(self, handler):
        handler.set_status(204)


@pytest.fixture
def page(context):
    """Return a function that requests a path of a spawned `Web`."""
    web_process = Web("web")
    context.spawn(web_process)

    def page(path, *args, **kw):
        return request(web_process.pid, f"/web{path}", *args, **kw)

    page.process = web_process
    return page


@pytest.mark.clause("Process.route", "Process.route handler")
def test_a_route_is_served_by_its_method_with_a_live_request_handler(page):
    answer = page("/hello/world")
    assert (answer.status, answer.body) == (200, b"<html><title>hello world</title></html>")
    kind = []

    class Looker(Process):
        look = route("/look")(lambda self, handler: kind.append(handler))

    page.process.context.spawn(Looker("looker"))
    assert request(page.process.pid, "/looker/look").status == 200
    assert isinstance(kind[0], web.RequestHandler)


def test_routes_stack_on_one_method(page):
    assert page("/one").body == b"served /web/one"
    assert page("/two").body == b"served /web/two"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/a", 200, b"a"),
        ("/a/", 200, b"a"),
        ("/a/c", 200, b"a"),
        ("/a/c/d", 200, b"a"),
        ("/a/b", 200, b"ab"),
        ("/a/b/c", 200, b"ab"),
        ("/a/bc", 200, b"a"),
        ("/ab", 404, None),
        ("/b", 404, None),
        ("", 404, None),
        ("/A", 404, None),
    ],
)
def test_a_path_is_served_exactly_or_by_the_longest_installed_prefix_of_whole_segments(page, path, status, body):
    answer = page(path)
    assert answer.status == status
    if body is not None:
        assert answer.body == body


def test_a_request_for_an_unknown_process_is_answered_with_404(page):
    assert request(page.process.pid, "/nobody/a").status == 404


def test_get_and_head_are_served_unless_said_otherwise_and_others_get_405_with_allow(page):
    head = page("/a", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == "1"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        refused = page("/a", method)
        assert refused.status == 405
        assert {name.strip() for name in refused.headers["Allow"].split(",")} == {"GET", "HEAD"}


def test_a_route_serves_exactly_the_methods_that_it_names(page):
    assert page("/echo", "POST", b"body").body == b"POST body"
    assert page("/echo", "PUT", b"").body == b"PUT "
    for method in ("GET", "HEAD", "DELETE"):
        refused = page("/echo", method)
        assert refused.status == 405
        assert {name.strip() for name in refused.headers["Allow"].split(",")} == {"POST", "PUT"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/coroutine", b"before after"),
        ("/generator", b"slept"),
        ("/decorated", b"slept"),
        ("/finished", b"finished by hand"),
        ("/streams", b"one two three"),
        ("/silent", b""),
    ],
)
def test_routes_may_be_asynchronous_and_may_finish_by_themselves_or_not(page, path, body):
    answer = page(path)
    assert answer.status in {200, 204}
    assert answer.body == body


def test_the_handler_has_arguments_status_headers_and_json_of_tornado(page):
    answer = page("/json?q=what%20else")
    assert answer.status == 201
    assert answer.headers["X-Mine"] == "mine"
    assert json.loads(answer.body) == {"query": "what else", "remote": "127.0.0.1"}


def test_a_route_that_raises_is_answered_with_500_and_logged_and_the_process_goes_on(page, caplog):
    assert page("/raises").status == 500
    assert "deliberate" in caplog.text
    assert page("/a").body == b"a"
    assert page.process.context.statistics()["handler_errors"] == 1


def test_a_route_may_answer_with_an_http_error_or_a_redirect_of_tornado(page):
    assert page("/refuses").status == 418
    answer = page("/redirects")
    assert (answer.status, answer.headers["Location"]) == (302, "/web/a")


def test_a_path_may_be_a_route_and_a_message_name_at_the_same_time(page):
    assert page("/both").body == b"the page"
    assert post(page.process.pid, "both", b"the message") == 202
    assert page.process.take()[2] == b"the message"
    assert page("/both", "POST", b"no sender").status == 405


def test_routes_are_inherited_and_can_be_overridden(context):
    class Derived(Web):
        def a(self, handler):
            handler.write("derived a")

        @route("/two")
        def another(self, handler):
            handler.write("derived two")

    pid = context.spawn(Derived("derived"))
    assert request(pid, "/derived/a").body == b"derived a"
    assert request(pid, "/derived/two").body == b"derived two"
    assert request(pid, "/derived/one").body == b"served /derived/one"
    assert request(pid, "/derived/a/b").body == b"ab"


@pytest.mark.parametrize("path", ["/slave(1)/a", "/slave%281%29/a", "/%73lave(1)/a"])
def test_the_id_in_a_path_may_be_percent_encoded(context, path):
    pid = context.spawn(Web("slave(1)"))
    assert request(pid, path).body == b"a"


def test_several_requests_travel_on_one_connection(page):
    connection = http.client.HTTPConnection(page.process.pid.ip, page.process.pid.port, timeout=DEADLINE)
    try:
        for path, body in (("/web/a", b"a"), ("/web/coroutine", b"before after"), ("/web/streams", b"one two three")):
            connection.request("GET", path)
            sock = connection.sock
            answer = connection.getresponse()
            assert answer.read() == body
            assert connection.sock is sock
    finally:
        connection.close()


def test_routes_of_a_terminated_process_are_gone(page, context):
    pid = page.process.pid
    page.process.terminate()
    assert context.wait(pid, DEADLINE)
    assert request(pid, "/web/a").status == 404


def test_an_asynchronous_route_does_not_hold_the_mailbox(context):
    gate = asyncio.Event()

    class Streaming(Recorder):
        @route("/stream")
        async def stream(self, handler):
            started.set()
            await gate.wait()
            handler.write("done")

        def open_gate(self):
            gate.set()

    started = threading.Event()
    streaming = Streaming("streaming")
    pid = context.spawn(streaming)
    outcome = in_thread(request, pid, "/streaming/stream")
    assert started.wait(DEADLINE)
    streaming.send(pid, "note", b"meanwhile")
    assert streaming.take()[2] == b"meanwhile"
    context.dispatch(pid, "open_gate")
    assert outcome.get(timeout=DEADLINE)[1].body == b"done"


def test_a_route_starts_in_queue_order_behind_the_event_being_handled(context):
    class Queued(Holder):
        @route("/page")
        def page(self, handler):
            self.seen.put("page")
            handler.write("page")

    queued, sender = Queued("queued"), Process("sender")
    pid = context.spawn(queued)
    context.spawn(sender)
    queued.hold_now(sender)
    outcome = in_thread(request, pid, "/queued/page")
    other = Web("other")
    context.spawn(other)
    assert request(pid, "/other/a").body == b"a"
    assert queued.seen.empty()
    queued.release(context)
    assert outcome.get(timeout=DEADLINE)[1].body == b"page"


@pytest.mark.parametrize("path", ["no-slash", "", "/with space", "/with?query"])
def test_a_path_that_no_request_can_have_is_refused_when_decorating(path):
    with pytest.raises(ValueError, match="route"):
        route(path)(lambda self, handler: None)

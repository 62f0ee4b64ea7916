"""Route functions with a live tornado handler, on a connection of ours."""

import asyncio
import concurrent.futures
import gc
import http.client
import io
import json
import logging
from types import SimpleNamespace

import pytest
from tornado import gen
from tornado.httputil import HTTPOutputError
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError

from compactor.http.exchange import SERVER, plain_response, response_head
from compactor.http.tornado import TornadoBridge

BRIDGE = TornadoBridge()


def make_head(method="GET", target="/web/page", minor=1, headers=None, persistent=None):
    if headers is None:
        headers = [("Host", "here:5050")] if minor else []
    path, _, query = target.partition("?")
    persistent = minor == 1 if persistent is None else persistent
    return SimpleNamespace(
        method=method, target=target, path=path, query=query, minor=minor, headers=headers, persistent=persistent
    )


class FakeExchange:
    """An exchange that keeps what was written."""

    def __init__(self, body=b"", **head):
        self.head = make_head(**head)
        self.body = body
        self.remote_ip = "192.0.2.7"
        self.lost = False
        self.writes = []
        self.closes = []  # the argument of each finish()
        self.waiting = []
        self.callback = None
        self.blocked = False

    def write(self, data):
        assert not self.closes, "written after the end"
        if not self.lost:
            self.writes.append(data)

    def finish(self, close):
        self.closes.append(close)
        self.callback = None

    def drained(self):
        future = asyncio.get_running_loop().create_future()
        if self.blocked:
            self.waiting.append(future)
        else:
            future.set_result(None)
        return future

    def on_lost(self, callback):
        self.callback = callback

    def lose(self):
        self.lost = True
        for future in self.waiting:
            future.set_exception(StreamClosedError())
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()

    @property
    def sent(self):
        return b"".join(self.writes)


class Answer:
    """What a client reads; parsed by http.client, and nothing may be left over."""

    def __init__(self, exchange):
        self.raw = exchange.sent
        stream = io.BytesIO(self.raw)
        response = http.client.HTTPResponse(SimpleNamespace(makefile=lambda _: stream), method=exchange.head.method)
        # http.client closes the stream with the response.
        stream.close = lambda: None
        response.begin()
        self.status, self.reason, self.headers = response.status, response.reason, response.headers
        self.body = response.read()
        assert stream.read() == b"", "bytes after the end of the response"
        assert len(exchange.closes) == 1, "not finished exactly once"
        self.closed = exchange.closes[0]


def serve(call, body=b"", **head):
    """Run a route to its end."""
    exchange, errors = FakeExchange(body, **head), []
    asyncio.run(BRIDGE.start(exchange, call, errors.append))
    return SimpleNamespace(exchange=exchange, errors=errors)


def answer(call, body=b"", **head):
    outcome = serve(call, body, **head)
    assert outcome.errors == []
    return Answer(outcome.exchange)


def steps_at_once(call, **head):
    """Step the coroutine once and say whether that was all."""
    exchange, errors = FakeExchange(**head), []

    async def run():
        coroutine = BRIDGE.start(exchange, call, errors.append)
        try:
            coroutine.send(None)
        except StopIteration:
            return True
        coroutine.close()
        return False

    return asyncio.run(run()), exchange, errors


# --- one step ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_plain_route_runs_and_finishes_within_the_first_step_of_the_coroutine(method):
    done, exchange, errors = steps_at_once(lambda handler: handler.write("hello"), method=method)
    assert done
    assert errors == []
    assert Answer(exchange).body == (b"" if method == "HEAD" else b"hello")


def test_a_route_that_raises_ends_within_the_first_step_too():
    def call(handler):
        raise KeyError("no")

    done, exchange, errors = steps_at_once(call)
    assert done
    assert Answer(exchange).status == 500
    assert [type(error) for error in errors] == [KeyError]


def test_a_coroutine_that_does_not_wait_and_a_finished_future_end_within_the_first_step():
    async def route(handler):
        handler.write("at once")

    @gen.coroutine
    def old_style(handler):
        handler.write("at once")

    for call in (route, old_style):
        done, exchange, _ = steps_at_once(call)
        assert done
        assert Answer(exchange).body == b"at once"


def test_a_coroutine_that_is_closed_before_its_end_has_finished_its_exchange():
    async def route(handler):
        await asyncio.get_running_loop().create_future()

    done, exchange, _ = steps_at_once(route)
    assert not done
    assert Answer(exchange).status == 500
    assert exchange.closes == [True]


# --- what a route may do ---


def test_a_plain_write_becomes_a_response_with_a_length_on_a_connection_that_stays():
    got = answer(lambda handler: handler.write("<b>hello</b>"))
    assert (got.status, got.reason, got.body, got.closed) == (200, "OK", b"<b>hello</b>", False)
    assert got.headers["Content-Length"] == "12"
    assert got.headers["Content-Type"] == "text/html; charset=UTF-8"
    assert got.headers["Server"] == SERVER
    assert got.headers["Date"].endswith(" GMT")
    assert "Connection" not in got.headers
    assert "Transfer-Encoding" not in got.headers


def test_a_small_response_is_one_write():
    assert len(serve(lambda handler: handler.write("x" * 1000)).exchange.writes) == 1


def test_a_large_body_is_handed_on_without_being_joined_to_the_head():
    body = b"x" * 200_000
    outcome = serve(lambda handler: handler.write(body))
    assert [len(part) for part in outcome.exchange.writes][1:] == [200_000]
    assert Answer(outcome.exchange).body == body


def test_a_route_may_finish_by_itself():
    def call(handler):
        handler.write("a")
        handler.finish("b")

    assert answer(call).body == b"ab"


@pytest.mark.parametrize("value", [None, 7, "ignored", b"ignored", [], object()])
def test_a_value_that_is_no_awaitable_is_ignored(value):
    got = answer(lambda handler: value)
    assert (got.status, got.body) == (200, b"")


def test_status_and_headers_are_sent_as_set():
    def call(handler):
        handler.set_status(418, "Short and stout")
        handler.set_header("X-Tea", "caf\xe9")
        handler.add_header("X-More", "1")
        handler.add_header("X-More", "2")

    got = answer(call)
    assert (got.status, got.reason) == (418, "Short and stout")
    assert got.headers["X-Tea"] == "caf\xe9"
    assert got.headers.get_all("X-More") == ["1", "2"]


def test_a_dict_is_written_as_json():
    got = answer(lambda handler: handler.write({"slaves": [1, 2]}))
    assert json.loads(got.body) == {"slaves": [1, 2]}
    assert got.headers["Content-Type"].startswith("application/json")


def test_a_redirect_is_sent():
    got = answer(lambda handler: handler.redirect("/web/other"))
    assert (got.status, got.headers["Location"], got.closed) == (302, "/web/other", False)


def test_cookies_are_read_and_set():
    def call(handler):
        handler.set_cookie("seen", handler.get_cookie("who"))

    got = answer(call, headers=[("Host", "h"), ("Cookie", "who=me")])
    assert got.headers["Set-Cookie"] == "seen=me; Path=/"


def test_the_request_is_as_the_client_sent_it():
    seen = {}

    def call(handler):
        request = handler.request
        seen.update(
            uri=request.uri, path=request.path, query=request.query, method=request.method, version=request.version,
            ip=request.remote_ip, protocol=request.protocol, host=request.host, body=request.body,
            header=request.headers["x-thing"], url=request.full_url(),
        )  # fmt: skip

    answer(
        call, b"payload", method="PUT", target="/s%281%29/a%20b?x=%2F&y", headers=[("Host", "h:1"), ("X-Thing", "v")]
    )
    assert seen == {
        "uri": "/s%281%29/a%20b?x=%2F&y", "path": "/s%281%29/a%20b", "query": "x=%2F&y", "method": "PUT",
        "version": "HTTP/1.1", "ip": "192.0.2.7", "protocol": "http", "host": "h:1", "body": b"payload",
        "header": "v", "url": "http://h:1/s%281%29/a%20b?x=%2F&y",
    }  # fmt: skip


def test_arguments_come_from_the_query_and_from_a_form():
    def call(handler):
        handler.write(f"{handler.get_argument('q')} {handler.get_arguments('n')} {handler.get_body_argument('n')}")

    form = [("Host", "h"), ("Content-Type", "application/x-www-form-urlencoded")]
    got = answer(call, b"n=2&m=%C3%A9", method="POST", target="/web/page?q=a%20b&n=1", headers=form)
    assert got.body == b"a b ['1', '2'] 2"


def test_a_missing_argument_is_a_400_and_no_error_of_the_process():
    got = answer(lambda handler: handler.get_argument("q"))
    assert (got.status, got.closed) == (400, False)


def test_a_matching_etag_is_answered_304_without_body_or_length():
    def call(handler):
        handler.write("page")

    etag = answer(call).headers["Etag"]
    got = answer(call, headers=[("Host", "h"), ("If-None-Match", etag)])
    assert (got.status, got.body, got.closed) == (304, b"", False)
    assert "Content-Length" not in got.headers
    assert "Transfer-Encoding" not in got.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_has_neither_body_nor_chunks(status, method):
    got = answer(lambda handler: handler.set_status(status), method=method)
    assert (got.status, got.body, got.closed) == (status, b"", False)
    assert "Transfer-Encoding" not in got.headers


def test_a_204_never_carries_a_length():
    def call(handler):
        handler.set_status(204)
        handler.set_header("Content-Length", 0)

    assert "Content-Length" not in answer(call).headers


def test_finish_exception_ends_the_request_without_an_error():
    def call(handler):
        handler.set_status(409)
        raise Finish("taken")

    got = answer(call)
    assert (got.status, got.body) == (409, b"taken")


# --- HEAD ---


def test_head_runs_the_same_function_and_keeps_the_length_without_the_body():
    got = answer(lambda handler: handler.write("hello"), method="HEAD")
    assert (got.status, got.body, got.headers["Content-Length"], got.closed) == (200, b"", "5", False)
    assert got.raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("minor", [0, 1])
def test_head_of_a_streamed_page_sends_the_head_only_and_closes_nothing(minor):
    def call(handler):
        handler.write("one")
        handler.flush()
        handler.write("two")

    got = answer(call, method="HEAD", minor=minor, persistent=True)
    assert got.raw.endswith(b"\r\n\r\n")
    assert "Transfer-Encoding" not in got.headers
    assert not got.closed


def test_head_may_promise_any_length():
    got = answer(lambda handler: handler.set_header("Content-Length", "1000"), method="HEAD")
    assert (got.headers["Content-Length"], got.closed) == ("1000", False)


# --- framing ---


async def stream(handler):
    """A page in two parts; the empty one between them must not end it."""
    handler.write("one")
    await handler.flush()
    await handler.flush()
    handler.write("two")
    await handler.flush()


def test_a_flushed_page_is_chunked_for_http_1_1():
    got = answer(stream)
    assert got.raw.partition(b"\r\n\r\n")[2] == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert (got.body, got.closed) == (b"onetwo", False)
    assert got.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in got.headers


@pytest.mark.parametrize("persistent", [True, False])
def test_a_flushed_page_ends_with_the_connection_for_http_1_0(persistent):
    got = answer(stream, minor=0, persistent=persistent)
    assert got.raw.partition(b"\r\n\r\n")[2] == b"onetwo"
    assert got.closed
    assert got.headers["Connection"] == "close"
    assert "Transfer-Encoding" not in got.headers


def test_a_flushed_page_with_a_length_is_not_chunked():
    async def call(handler):
        handler.set_header("Content-Length", 6)
        await stream(handler)

    got = answer(call)
    assert got.raw.partition(b"\r\n\r\n")[2] == b"onetwo"
    assert (got.headers["Content-Length"], got.closed) == ("6", False)


def test_a_large_chunk_is_not_copied_to_be_framed():
    part = b"x" * 200_000

    async def call(handler):
        handler.write(part)
        await handler.flush()

    outcome = serve(call)
    assert 200_000 in map(len, outcome.exchange.writes)
    assert Answer(outcome.exchange).body == part


def test_a_persistent_http_1_0_client_is_told_keep_alive():
    got = answer(lambda handler: handler.write("x"), minor=0, persistent=True)
    assert (got.headers["Connection"], got.closed) == ("keep-alive", False)


@pytest.mark.parametrize("minor", [0, 1])
def test_a_client_that_does_not_stay_is_told_close(minor):
    got = answer(lambda handler: handler.write("x"), minor=minor, persistent=False)
    assert (got.headers["Connection"], got.closed) == ("close", True)


def test_a_route_may_ask_for_the_connection_to_be_closed():
    got = answer(lambda handler: handler.set_header("Connection", "Close"))
    assert (got.headers.get_all("Connection"), got.closed) == (["close"], True)


def test_what_a_route_says_of_framing_cannot_contradict_what_is_sent():
    def call(handler):
        handler.set_header("Transfer-Encoding", "chunked")
        handler.set_header("Connection", "keep-alive")
        handler.write("x")

    got = answer(call, persistent=False)
    assert "Transfer-Encoding" not in got.headers
    assert (got.body, got.headers.get_all("Connection"), got.closed) == (b"x", ["close"], True)


@pytest.mark.parametrize("length", ["-1", "+5", "1_0", " 5", "5, 5", "five", "", "\xb2"])
def test_a_promised_length_that_is_no_number_is_a_500(length):
    def call(handler):
        handler.set_header("Content-Length", length)
        handler.write("hello")

    outcome = serve(call)
    assert Answer(outcome.exchange).status == 500
    assert len(outcome.errors) == 1


def test_a_response_shorter_than_promised_is_cut_off():
    def call(handler):
        handler.set_header("Content-Length", 10)
        handler.write("hello")

    outcome = serve(call)
    assert outcome.exchange.sent.endswith(b"\r\n\r\nhello")
    assert outcome.exchange.closes == [True]
    assert [type(error) for error in outcome.errors] == [HTTPOutputError]
    assert "5 bytes short" in str(outcome.errors[0])


def test_a_response_longer_than_promised_is_cut_off_at_the_promised_length_or_before():
    def call(handler):
        handler.set_header("Content-Length", 4)
        handler.write("one")
        handler.flush()
        handler.write("two")

    outcome = serve(call)
    assert outcome.exchange.sent.endswith(b"\r\n\r\none")
    assert outcome.exchange.closes == [True]
    assert [type(error) for error in outcome.errors] == [HTTPOutputError]
    assert "2 bytes longer" in str(outcome.errors[0])


def test_a_response_that_breaks_its_promise_before_anything_left_is_a_whole_500():
    def call(handler):
        handler.set_header("Content-Length", 4)
        handler.write("hello")

    outcome = serve(call)
    got = Answer(outcome.exchange)
    assert (got.status, got.closed) == (500, False)
    assert [type(error) for error in outcome.errors] == [HTTPOutputError]


def test_a_body_where_the_status_has_none_is_not_sent():
    def call(handler):
        handler.set_status(204)
        handler.write("x")
        handler.flush()

    outcome = serve(call)
    assert Answer(outcome.exchange).status == 500
    assert [type(error) for error in outcome.errors] == [HTTPOutputError]


def test_an_informational_status_as_the_answer_ends_the_connection():
    outcome = serve(lambda handler: handler.set_status(103))
    assert outcome.exchange.sent.startswith(b"HTTP/1.1 103 ")
    assert outcome.exchange.closes == [True]


# --- header injection ---


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("where", ["value", "name", "reason", "cookie"])
def test_control_characters_in_a_header_are_a_500_and_never_sent(where, evil):
    def call(handler):
        if where == "value":
            handler._headers["X-Thing"] = evil  # past tornado's own check: ours must hold without it
        elif where == "name":
            handler._headers[evil] = "1"
        elif where == "reason":
            handler.set_status(200, "OK")
            handler._reason = evil
        else:
            handler._headers["Set-Cookie"] = "c=" + evil
        handler.write("page")

    outcome = serve(call)
    got = Answer(outcome.exchange)
    assert (got.status, got.closed) == (500, False)
    assert "X-Evil" not in got.headers
    assert [type(error) for error in outcome.errors] == [ValueError]


def test_a_header_beyond_latin_1_is_a_500():
    outcome = serve(lambda handler: handler._headers.__setitem__("X-Thing", "\u20ac"))
    assert Answer(outcome.exchange).status == 500
    assert "X-Thing" in str(outcome.errors[0])


# --- errors ---


@pytest.mark.parametrize("kind", ["plain", "async", "after a wait"])
def test_an_exception_is_a_500_told_once_and_logged_by_nobody_else(kind, caplog):
    def plain(handler):
        handler.write("never seen")
        raise LookupError("broken")

    async def asynchronous(handler):
        if kind == "after a wait":
            await asyncio.sleep(0)
        plain(handler)

    caplog.set_level(logging.INFO)
    outcome = serve(plain if kind == "plain" else asynchronous)
    got = Answer(outcome.exchange)
    assert (got.status, got.closed) == (500, False)
    assert b"broken" not in got.body
    assert b"never seen" not in got.body
    assert [repr(error) for error in outcome.errors] == ["LookupError('broken')"]
    assert caplog.records == []


def test_an_http_error_is_its_status_and_no_error_of_the_process():
    def call(handler):
        raise HTTPError(403, "not you")

    got = answer(call)
    assert (got.status, got.closed) == (403, False)


def test_an_exception_after_the_route_finished_is_told_and_changes_nothing():
    def call(handler):
        handler.finish("done")
        raise LookupError

    outcome = serve(call)
    got = Answer(outcome.exchange)
    assert (got.status, got.body, got.closed) == (200, b"done", False)
    assert len(outcome.errors) == 1


@pytest.mark.parametrize("error", [LookupError("late"), HTTPError(403)])
def test_a_page_that_fails_half_way_is_cut_off_without_a_last_chunk(error):
    async def call(handler):
        handler.write("one")
        await handler.flush()
        raise error

    outcome = serve(call)
    assert outcome.exchange.sent.endswith(b"3\r\none\r\n")
    assert outcome.exchange.closes == [True]
    assert outcome.errors == ([error] if isinstance(error, LookupError) else [])


def test_a_second_finish_is_an_error_of_the_route_and_the_response_stays_whole():
    def call(handler):
        handler.finish("one")
        handler.finish("two")

    outcome = serve(call)
    assert Answer(outcome.exchange).body == b"one"
    assert [type(error) for error in outcome.errors] == [RuntimeError]


def test_detaching_is_refused_with_a_500():
    outcome = serve(lambda handler: handler.detach())
    assert Answer(outcome.exchange).status == 500
    assert "cannot take over the connection" in str(outcome.errors[0])


@pytest.mark.parametrize(
    "misuse", [lambda connection: connection.write(b"x"), lambda connection: connection.finish()]
)
def test_writing_past_the_handler_without_headers_is_a_500(misuse):
    outcome = serve(lambda handler: misuse(handler.request.connection))
    assert Answer(outcome.exchange).status == 500
    assert [type(error) for error in outcome.errors] == [HTTPOutputError]


@pytest.mark.parametrize(
    "headers", [[], [("Host", "a"), ("Host", "b")], [("Host", "a b")], [("Host", "a/b")], [("Host", "a<script>")]]
)
def test_a_bad_host_is_answered_400_and_the_route_does_not_run(headers):
    called = []
    outcome = serve(called.append, headers=headers)
    got = Answer(outcome.exchange)
    assert (got.status, got.closed, got.headers["Connection"]) == (400, True, "close")
    assert called == outcome.errors == []


def test_an_empty_host_and_http_1_0_without_one_are_served():
    assert answer(lambda handler: handler.write("x"), headers=[("Host", "")]).status == 200
    assert answer(lambda handler: handler.write("x"), minor=0).status == 200


def test_a_broken_form_is_a_400():
    headers = [("Host", "h"), ("Content-Type", "multipart/form-data")]
    assert answer(lambda handler: handler.write("x"), b"--", method="POST", headers=headers).status == 400


# --- waiting ---


def test_an_async_route_is_answered_when_it_returns():
    async def call(handler):
        await asyncio.sleep(0)
        handler.write("later")

    assert answer(call).body == b"later"


def test_tornado_coroutines_generators_and_futures_are_awaited():
    @gen.coroutine
    def old_style(handler):
        yield gen.sleep(0)
        handler.write("later")

    def hidden_generator(handler):
        return (lambda: (yield from old_style.__wrapped__(handler)))()

    def future(handler):
        promise = asyncio.get_running_loop().create_future()

        def due():
            handler.write("later")
            promise.set_result("ignored")

        asyncio.get_running_loop().call_soon(due)
        return promise

    def in_a_thread(handler):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            promise = pool.submit(str)
        handler.write("later")
        return promise

    for call in (old_style, hidden_generator, future, in_a_thread):
        assert answer(call).body == b"later"


def test_a_failed_future_is_a_500():
    def call(handler):
        promise = asyncio.get_running_loop().create_future()
        promise.set_exception(LookupError("broken"))
        return promise

    outcome = serve(call)
    assert Answer(outcome.exchange).status == 500
    assert [repr(error) for error in outcome.errors] == ["LookupError('broken')"]


def test_a_request_that_is_cancelled_finishes_its_exchange_and_stays_cancelled():
    exchange = FakeExchange()

    async def main():
        started = asyncio.Event()

        async def call(handler):
            started.set()
            await asyncio.get_running_loop().create_future()

        task = asyncio.ensure_future(BRIDGE.start(exchange, call, lambda error: None))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert Answer(exchange).status == 500


# --- clients that go away ---


async def lose_while(call, exchange, errors):
    """Run `call` until it waits, lose the client, and run it to the end; return what the loop complained of."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    task = asyncio.ensure_future(BRIDGE.start(exchange, call, errors.append))
    while not exchange.waiting:
        await asyncio.sleep(0)
    exchange.lose()
    await task
    exchange.waiting.clear()
    gc.collect()
    await asyncio.sleep(0)
    return complaints


def test_a_client_that_goes_away_fails_the_write_and_calls_the_hook_once():
    exchange, errors, events = FakeExchange(), [], []
    exchange.blocked = True

    async def call(handler):
        handler.on_connection_close = lambda: events.append("closed")
        handler.write("one")
        try:
            await handler.flush()
        except StreamClosedError:
            events.append("write failed")
        handler.write("two")
        with pytest.raises(StreamClosedError):
            await handler.flush()
        events.append("went on")

    complaints = asyncio.run(lose_while(call, exchange, errors))
    assert events == ["closed", "write failed", "went on"]
    assert errors == complaints == []
    assert len(exchange.closes) == 1


def test_a_route_that_lets_the_failed_write_through_is_no_error_of_the_process():
    exchange, errors = FakeExchange(), []
    exchange.blocked = True

    async def call(handler):
        handler.set_header("Content-Length", 10)
        handler.write("one")
        await handler.flush()

    assert asyncio.run(lose_while(call, exchange, errors)) == []
    assert errors == []
    assert exchange.closes == [True]


def test_a_failed_write_that_nobody_awaits_is_not_complained_of():
    exchange, errors = FakeExchange(), []
    exchange.blocked = True

    async def call(handler):
        handler.set_header("Content-Length", 10)
        handler.write("one")
        handler.flush()
        while not exchange.lost:
            await asyncio.sleep(0)
        handler.write("two")
        handler.flush()

    assert asyncio.run(lose_while(call, exchange, errors)) == []
    assert errors == []
    assert exchange.closes == [True]


def test_a_stream_error_while_the_client_is_there_is_an_error_of_the_process():
    def call(handler):
        raise StreamClosedError

    assert [type(error) for error in serve(call).errors] == [StreamClosedError]


def test_what_the_hook_raises_is_told_and_does_not_reach_the_connection():
    exchange, errors = FakeExchange(), []
    exchange.blocked = True

    def broken():
        raise LookupError("in the hook")

    async def call(handler):
        handler.on_connection_close = broken
        handler.write("one")
        await handler.flush()

    asyncio.run(lose_while(call, exchange, errors))
    assert [repr(error) for error in errors] == ["LookupError('in the hook')"]


def test_a_request_whose_client_left_before_it_began_is_run_and_answered_to_nobody():
    exchange, ran = FakeExchange(), []
    exchange.lost = True

    def call(handler):
        ran.append(handler)
        handler.write("x")

    asyncio.run(BRIDGE.start(exchange, call, ran.append))
    assert len(ran) == 1
    assert exchange.writes == []
    assert len(exchange.closes) == 1


def test_the_hook_is_forgotten_when_the_response_is_finished():
    assert serve(lambda handler: handler.finish()).exchange.callback is None


# --- logging ---


def test_a_request_is_logged_at_debug_only(caplog):
    caplog.set_level(logging.DEBUG, "compactor.http")
    answer(lambda handler: handler.write("x"))
    assert [(r.name, r.levelno, r.getMessage()) for r in caplog.records if r.name != "asyncio"] == [
        ("compactor.http", logging.DEBUG, "192.0.2.7 GET /web/page -> 200")
    ]


# --- plain responses ---


class PlainExchange(FakeExchange):
    def __init__(self, *args, close=False, **kwargs):
        head = {key: kwargs.pop(key) for key in ("method", "minor", "persistent") if key in kwargs}
        super().__init__(**head)
        self.write(plain_response(self.head, *args, close=close, **kwargs))
        self.finish(close)


def test_a_plain_response_is_whole():
    got = Answer(PlainExchange(404, "404 Not Found.\u20ac", [("X-More", "1")]))
    assert (got.status, got.reason, got.body) == (404, "Not Found", "404 Not Found.\u20ac".encode())
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert got.headers["Server"] == SERVER
    assert got.headers["Date"].endswith(" GMT")
    assert got.headers["X-More"] == "1"
    assert "Connection" not in got.headers


def test_a_plain_response_without_text_has_a_length_of_zero_and_no_type():
    got = Answer(PlainExchange(202))
    assert (got.status, got.body, got.headers["Content-Length"]) == (202, b"", "0")
    assert "Content-Type" not in got.headers


def test_a_plain_response_to_head_keeps_the_length_and_drops_the_body():
    got = Answer(PlainExchange(404, "hello", method="HEAD"))
    assert (got.body, got.headers["Content-Length"]) == (b"", "5")
    assert got.raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "close", "value"),
    [
        ({"minor": 1, "persistent": True}, False, None),
        ({"minor": 1, "persistent": False}, False, "close"),
        ({"minor": 0, "persistent": True}, False, "keep-alive"),
        ({"minor": 0, "persistent": False}, False, "close"),
        ({"minor": 1, "persistent": True}, True, "close"),
    ],
)
def test_a_plain_response_says_what_becomes_of_the_connection(head, close, value):
    assert Answer(PlainExchange(200, "x", close=close, **head)).headers["Connection"] == value


def test_a_plain_response_with_an_unregistered_status_has_a_reason_all_the_same():
    assert Answer(PlainExchange(599)).reason == "Unknown"


def test_a_plain_204_has_neither_body_nor_length():
    got = Answer(PlainExchange(204, "text"))
    assert got.raw.endswith(b"\r\n\r\n")
    assert "Content-Length" not in got.headers


@pytest.mark.parametrize("evil", ["a\r\nb", "a\nb", "a\0b", "\u20ac", "\x7f"])
def test_a_plain_response_refuses_a_header_that_would_break_its_line(evil):
    with pytest.raises(ValueError, match="Location"):
        plain_response(make_head(), 302, "", [("Location", evil)])
    with pytest.raises(ValueError, match="cannot be the name of a header"):
        plain_response(make_head(), 302, "", [(evil, "x")])


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_a_status_that_has_not_three_digits_is_refused(status):
    with pytest.raises(ValueError, match="no HTTP status"):
        response_head(status, "x", [])

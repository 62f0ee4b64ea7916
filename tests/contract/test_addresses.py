"""Where a context listens and what its PIDs say: arguments, `LIBPROCESS_*`, and errors that name them."""

import logging
import re
import socket

import pytest
from helpers import DEADLINE, RawPeer, Recorder, post, unused_port

from compactor import Context, Process

FOREIGN = "203.0.113.7"
"""An address of the documentation range, which no host has."""

BOTH = ("argument", "variable")


@pytest.fixture
def configure(monkeypatch, make_context):
    """Return a function that makes a context by arguments, or by the variables of the same meaning."""

    def configure(how, **settings):
        if how == "argument":
            return make_context(**{"ip": None, **settings})
        for name, value in settings.items():
            monkeypatch.setenv(f"LIBPROCESS_{name.upper()}", str(value))
        return make_context(ip=None)

    return configure


def _can_connect(ip, port):
    try:
        socket.create_connection((ip, port), timeout=DEADLINE).close()
    except OSError:
        return False
    return True


@pytest.mark.clause("Context.__init__ ip", "Context.__init__ ip LIBPROCESS_IP")
@pytest.mark.parametrize("how", BOTH)
def test_the_context_listens_on_the_ip_that_it_was_given_and_on_no_other(configure, how):
    context = configure(how, ip="127.0.0.2")
    assert context.spawn(Process("process")).ip == "127.0.0.2"
    assert _can_connect("127.0.0.2", context.port)
    assert not _can_connect("127.0.0.1", context.port)


@pytest.mark.clause("Context.__init__ port", "Context.__init__ port LIBPROCESS_PORT")
@pytest.mark.parametrize("how", BOTH)
def test_the_context_listens_on_the_port_that_it_was_given(configure, how):
    port = unused_port()
    context = configure(how, ip="127.0.0.1", port=port)
    assert context.port == port
    assert context.spawn(Process("process")).port == port
    assert _can_connect("127.0.0.1", port)


@pytest.mark.clause("Context.__init__ port ephemeral")
def test_without_a_port_each_context_gets_one_of_its_own(make_context):
    first, second = make_context(), make_context()
    assert first.port != second.port
    assert min(first.port, second.port) > 0


@pytest.mark.clause("Context.__init__ ip all interfaces")
def test_without_an_ip_the_context_listens_on_all_interfaces_and_its_pids_carry_a_usable_address(make_context, caplog):
    caplog.set_level(logging.INFO, "compactor")
    context = make_context(ip=None)
    assert _can_connect("127.0.0.1", context.port)
    assert _can_connect("127.0.0.2", context.port)
    recorder = Recorder()
    pid = context.spawn(recorder)
    assert pid.ip not in {"0.0.0.0", "::", ""}
    assert _can_connect(pid.ip, pid.port)
    assert post(pid, "note", b"by the address it gives") == 202
    assert recorder.take()[2] == b"by the address it gives"
    records = [record for record in caplog.records if "LIBPROCESS_ADVERTISE_IP" in record.getMessage()]
    assert len(records) == 1
    assert pid.ip in records[0].getMessage()


def test_nothing_is_said_about_the_address_where_it_was_given(make_context, caplog):
    caplog.set_level(logging.INFO, "compactor")
    make_context(ip="127.0.0.1")
    make_context(ip=None, advertise_ip="127.0.0.1")
    assert "LIBPROCESS_ADVERTISE_IP" not in caplog.text


def test_an_argument_wins_over_its_variable(make_context, monkeypatch):
    port, other = unused_port(), unused_port()
    monkeypatch.setenv("LIBPROCESS_IP", FOREIGN)
    monkeypatch.setenv("LIBPROCESS_PORT", str(other))
    monkeypatch.setenv("LIBPROCESS_ADVERTISE_IP", FOREIGN)
    monkeypatch.setenv("LIBPROCESS_ADVERTISE_PORT", "7")
    context = make_context(ip="127.0.0.1", port=port, advertise_ip="198.51.100.1", advertise_port=8)
    pid = context.spawn(Process("process"))
    assert _can_connect("127.0.0.1", port)
    assert (pid.ip, pid.port) == ("198.51.100.1", 8)


def test_port_0_means_any_free_port_whatever_the_variable_says(make_context, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("LIBPROCESS_PORT", str(taken.getsockname()[1]))
        assert make_context(port=0).port > 0


@pytest.mark.parametrize("variable", ["IP", "PORT", "ADVERTISE_IP", "ADVERTISE_PORT"])
def test_an_empty_variable_counts_as_not_set(make_context, monkeypatch, variable):
    monkeypatch.setenv(f"LIBPROCESS_{variable}", "")
    context = make_context(ip=None)
    pid = context.spawn(Process("process"))
    assert _can_connect("127.0.0.1", context.port)
    assert pid.port == context.port


@pytest.mark.parametrize("how", BOTH)
def test_the_advertised_address_goes_into_pids_and_not_into_the_listening_socket(configure, how):
    port = unused_port()
    context = configure(how, ip="127.0.0.1", port=port, advertise_ip="198.51.100.1", advertise_port=4711)
    process = Process("process")
    pid = context.spawn(process)
    assert str(pid) == "process@198.51.100.1:4711"
    assert process.pid == pid
    assert _can_connect("127.0.0.1", port)
    with RawPeer() as peer:
        process.send(peer.pid("them"), "hello")
        assert peer.take()[0] == pid


@pytest.mark.parametrize("how", BOTH)
def test_an_advertised_ip_alone_goes_with_the_real_port(configure, how):
    context = configure(how, ip="127.0.0.1", advertise_ip="198.51.100.1")
    pid = context.spawn(Process("process"))
    assert pid.ip == "198.51.100.1"
    assert _can_connect("127.0.0.1", pid.port)


def test_a_message_to_the_advertised_address_of_its_own_context_stays_local(make_context):
    context = make_context(advertise_ip="198.51.100.1", advertise_port=4711)
    recorder, sender = Recorder(), Process("sender")
    context.spawn(recorder)
    context.spawn(sender)
    sender.send(recorder.pid, "note", b"local")
    assert recorder.take() == ("note", sender.pid, b"local")


def test_a_host_name_can_be_advertised_and_reached(make_context, context):
    named = make_context(advertise_ip="localhost")
    recorder, sender = Recorder(), Process("sender")
    pid = named.spawn(recorder)
    context.spawn(sender)
    assert pid.ip == "localhost"
    sender.send(pid, "note", b"by name")
    assert recorder.take()[2] == b"by name"


def test_a_context_can_listen_on_ipv6(make_context, context):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this host has no IPv6 loopback")
    six, seven = make_context(ip="::1"), make_context(ip="::1")
    recorder, sender = Recorder(), Recorder("sender")
    pid = six.spawn(recorder)
    seven.spawn(sender)
    assert re.fullmatch(r"recorder@\[::1\]:\d+", str(pid))
    sender.send(pid, "note", b"by IPv6")
    assert recorder.take() == ("note", sender.pid, b"by IPv6")


@pytest.mark.parametrize("how", BOTH)
def test_a_port_in_use_is_a_socket_error_that_names_its_source_and_the_remedy(configure, how):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Context.SocketError, match="port" if how == "argument" else "LIBPROCESS_PORT") as caught:
            configure(how, ip="127.0.0.1", port=port)
    assert str(port) in str(caught.value)
    assert "in use" in str(caught.value)


@pytest.mark.parametrize("how", BOTH)
def test_an_address_that_is_not_ours_is_a_socket_error_that_names_its_source_and_the_remedy(configure, how):
    with pytest.raises(Context.SocketError, match=r"\bip\b" if how == "argument" else "LIBPROCESS_IP") as caught:
        configure(how, ip=FOREIGN)
    assert FOREIGN in str(caught.value)
    assert "advertise" in str(caught.value).lower()


BAD = [
    ("ip", "not an address"),
    ("ip", "10.0.0.256"),
    ("ip", "127.0.0.1:5050"),
    ("port", "http"),
    ("port", "65536"),
    ("port", "-1"),
    ("port", "5050.0"),
    ("advertise_ip", "not an address"),
    ("advertise_ip", "http://example.com"),
    ("advertise_port", "http"),
    ("advertise_port", "65536"),
    ("advertise_port", "0"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_variable_is_an_error_that_names_it_and_its_value(configure, name, value):
    with pytest.raises(Context.Error, match=f"LIBPROCESS_{name.upper()}") as caught:
        configure("variable", **{name: value})
    assert value in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [*BAD, ("port", 65536), ("port", -1), ("port", 5050.5), ("port", True), ("ip", 5), ("advertise_port", 70000)],
)
def test_a_bad_argument_is_an_error_that_names_it_and_its_value(configure, name, value):
    with pytest.raises((Context.Error, ValueError, TypeError), match=rf"\b{name}\b") as caught:
        configure("argument", **{name: value})
    assert str(value) in str(caught.value)


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError):
        Context(ip="127.0.0.1", prot=5050)


def test_the_environment_is_not_read_at_import_but_when_a_context_is_made(monkeypatch, make_context):
    monkeypatch.setenv("LIBPROCESS_IP", "127.0.0.3")
    assert make_context(ip=None).spawn(Process("process")).ip == "127.0.0.3"
    monkeypatch.setenv("LIBPROCESS_IP", "127.0.0.2")
    assert make_context(ip=None).spawn(Process("process")).ip == "127.0.0.2"

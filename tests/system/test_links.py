"""Links: `exited` comes once for each death that can be seen, with its reason, and never for anything else."""

import contextlib
import pathlib
import signal
import socket
import threading

import pytest
from helpers import DEADLINE, Recorder, eventually, post, run_program, unused_port
from raw import ACCEPTED, GO_ACCEPTED, RawClient, RawServer
from running import RunningProgram

from compactor import PID, Process, install

PROGRAMS = pathlib.Path(__file__).parent / "programs"
REFRESH = 0.05
"""Seconds between two refreshes of a link, where a test does not want to wait for the usual five."""
SHORT_SILENCE = 1.0
PAUSE = 0.3
"""Seconds in which a connection that must not be made would be made."""
MANY = 25
"""More refreshes than fit into the short silence limit."""

COMPACTOR_404 = b"HTTP/1.1 404 Not Found\r\nServer: compactor/9.0\r\nContent-Length: 0\r\n\r\n"
GO_404 = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
    b"Content-Length: 19\r\n\r\n404 page not found\n"
)


def compactor_202(incarnation):
    """Return what a compactor answers to a `__link__` for a living process."""
    return (
        b"HTTP/1.1 202 Accepted\r\nServer: compactor/9.0\r\nCompactor-Incarnation: %b\r\nContent-Length: 0\r\n\r\n"
        % incarnation
    )


@pytest.fixture
def linker(context):
    return spawned(context, "linker")


@pytest.fixture
def make_refreshing_context(make_context, monkeypatch):
    """Return a function that makes a context which refreshes its links often."""
    monkeypatch.setattr("compactor._watching._LONGEST_REFRESH", REFRESH)
    return make_context


@pytest.fixture
def refreshing(make_refreshing_context):
    """Return a linker on a context that refreshes its links often."""
    return spawned(make_refreshing_context(), "linker")


@pytest.fixture
def impatient(make_refreshing_context):
    """Return a linker that refreshes its links often, with a short silence limit."""
    return spawned(make_refreshing_context(link_silence=SHORT_SILENCE), "linker")


@pytest.fixture
def unreachable(make_refreshing_context):
    """Return a linker that refreshes its links often, and that no notice of death can reach."""
    return spawned(make_refreshing_context(advertise_port=unused_port()), "linker")


@pytest.fixture
def peer():
    with RawServer() as server:
        yield server


def spawned(context, name):
    process = Recorder(name)
    context.spawn(process)
    return process


@contextlib.contextmanager
def linkees(number=1, port=0):
    """Run linkees as an OS process; yield the program and their PIDs."""
    with RunningProgram(PROGRAMS / "linkees.py", number, port) as program:
        port = int(program.wait_for_line(r"listens on (\d+)")[1])
        yield program, [PID("127.0.0.1", port, f"linkee{index}") for index in range(number)]


def linked(process, to):
    """Link, and return when the context of `to` has answered the link."""
    process.link(to)
    answered(process, to)


def answered(process, to):
    """Return when everything that was sent to `to` has been answered and the answers are here.

    A reply comes on a connection of its own, after the answers to whatever was handled before the question was sent.
    """
    for _ in range(2):
        process.ask(to, "ping").result()


def accept_linked(peer, answer=ACCEPTED):
    """Accept the connection of a link; return it, and the nonce of the link, when the link was answered."""
    connection = peer.accept()
    nonce = take_link(connection)
    connection.send(answer)
    return connection, nonce


def take_link(connection):
    """Read a `__link__` and return its nonce."""
    request = connection.request()
    assert request.path == "/linkee/__link__"
    return request.body.split(b" ")[0]


def assert_no_more_exits(*processes):
    """Fail when an `exited` is queued for one of them."""
    for process in processes:
        process.send(process.pid, "fence")
        process.take_until_fence()
        assert process.exits.empty()


def wait_until_lost(context):
    """Return when a connection that broke has been noticed."""
    eventually(lambda: context.statistics().get("connections_lost"), "a connection was lost")


# ---- processes of the same context


def test_a_local_process_that_terminates_is_told_once_and_with_its_reason(context, linker):
    linkee = spawned(context, "linkee")
    linker.link(linkee.pid)
    context.terminate(pid := linkee.pid)
    assert linker.take_exit() == (pid, "terminated")
    assert_no_more_exits(linker)


def test_a_local_id_that_does_not_exist_is_told_at_once(context, linker):
    nobody = PID(context.ip, context.port, "nobody")
    linker.link(nobody)
    assert linker.take_exit() == (nobody, "no such process")
    assert_no_more_exits(linker)


def test_a_process_that_links_to_itself_hears_nothing_of_its_own_end(context, linker):
    pid = linker.pid
    linker.link(pid)
    assert_no_more_exits(linker)
    context.terminate(pid)
    context.wait(pid, DEADLINE)
    assert linker.exits.empty()
    successor = spawned(context, "linker")
    assert_no_more_exits(successor)
    assert context.statistics()["exited"] == 0


def test_linking_twice_to_a_local_process_is_linking_once(context, linker):
    linkee = spawned(context, "linkee")
    linker.link(linkee.pid)
    linker.link(linkee.pid)
    context.terminate(linkee.pid)
    linker.take_exit()
    assert_no_more_exits(linker)


def test_the_links_of_a_terminated_linker_are_not_those_of_its_successor(context, linker):
    linkee = spawned(context, "linkee")
    linker.link(linkee.pid)
    context.terminate(linker.pid)
    successor = eventually_spawned(context, "linker")
    context.terminate(pid := linkee.pid)
    context.wait(pid, DEADLINE)
    assert_no_more_exits(successor)


def eventually_spawned(context, name):
    """Spawn a successor as soon as the id is free."""
    context.wait(PID(context.ip, context.port, name), DEADLINE)
    return spawned(context, name)


def test_a_link_by_another_name_of_its_own_address_is_local_and_told_by_that_name(context, linker, monkeypatch):
    resolve_to_here(monkeypatch, "here.example")
    linkee = spawned(context, "linkee")
    alias = PID("here.example", context.port, "linkee")
    linker.link(alias)
    linker.send(alias, "note")  # waits for the same look-up, behind the link
    assert linkee.take()[1] == linker.pid
    context.terminate(linkee.pid)
    assert linker.take_exit() == (alias, "terminated")
    assert context.statistics()["connections_inbound"] == 0


def resolve_to_here(monkeypatch, name):
    """Let a host name mean 127.0.0.1."""
    ask = socket.getaddrinfo

    def answer(host, *args, **kw):
        return ask("127.0.0.1" if host == name else host, *args, **kw)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


# ---- the hook


def test_the_reason_is_there_while_exited_runs_and_only_then(context):
    class Curious(Recorder):
        @install("note")
        def note(self, from_pid, body):
            self.seen.put(("note", self.exit_reason, body))

        async def exited(self, pid):
            first = self.exit_reason
            await self.ask(self.other, "ping")
            self.exits.put((first, self.exit_reason))

    class Other(Process):
        @install("ping")
        def ping(self, from_pid, body):
            self.reply("pong")

    curious = Curious()
    context.spawn(curious)
    curious.other = context.spawn(Other("other"))
    assert curious.exit_reason is None
    curious.link(PID(context.ip, context.port, "nobody"))
    curious.send(curious.pid, "note")
    assert curious.take_exit() == ("no such process", "no such process")
    assert curious.take()[1] is None
    assert curious.exit_reason is None


class Persistent(Recorder):
    """Links again to whoever is gone, while it is told so."""

    def exited(self, pid):
        super().exited(pid)
        self.link(pid)


def test_a_linker_may_link_again_while_it_is_told(context, peer):
    persistent = Persistent()
    context.spawn(persistent)
    persistent.link(peer.pid("linkee"))
    nonces = set()
    for _ in range(3):
        connection, nonce = accept_linked(peer)
        nonces.add(nonce)
        connection.close()
        assert persistent.take_exit()[0] == peer.pid("linkee")
        assert_no_more_exits(persistent)
    assert len(nonces) == 3


# ---- a connection that cannot be made


def test_a_refused_connection_is_told(linker):
    nobody = PID("127.0.0.1", unused_port(), "linkee")
    linker.link(nobody)
    pid, reason = linker.take_exit()
    assert pid == nobody
    assert "refused" in reason
    assert_no_more_exits(linker)


def test_an_address_to_which_no_connection_can_lead_is_told(linker):
    nowhere = PID("255.255.255.255", 5050, "linkee")
    linker.link(nowhere)
    pid, reason = linker.take_exit()
    assert pid == nowhere
    assert reason in {"network is unreachable", "no route to host", "permission denied"}


def test_a_connection_that_times_out_is_told(linker, monkeypatch):
    monkeypatch.setattr("compactor._aio.peers.CONNECT_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        linker.link(PID(*full.getsockname(), "linkee"))
        assert "timed out" in linker.take_exit()[1]


def test_a_name_that_cannot_be_resolved_is_told(linker, monkeypatch):
    def fail(*args, **kw):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    nowhere = PID("nowhere.example", 5050, "linkee")
    linker.link(nowhere)
    pid, reason = linker.take_exit()
    assert pid == nowhere
    assert "not resolved" in reason
    assert_no_more_exits(linker)


def test_a_connection_for_which_there_is_no_descriptor_is_told():
    assert "too many open files" in run_program(PROGRAMS / "no_descriptors.py").stdout


# ---- other OS processes


def test_a_killed_os_process_is_told_once_to_every_link(context, linker):
    second = spawned(context, "second")
    with linkees(3) as (program, pids):
        for process in (linker, second):
            for pid in pids:
                process.link(pid)
            answered(process, pids[0])
        program.process.kill()
        for process in (linker, second):
            exits = [process.take_exit() for _ in pids]
            assert sorted(pid for pid, _ in exits) == pids
            assert all("connection lost" in reason for _, reason in exits)
        assert_no_more_exits(linker, second)


def test_a_thousand_links_to_a_killed_os_process_are_all_told(context):
    linkers = [spawned(context, f"linker{index}") for index in range(10)]
    with linkees(100) as (program, pids):
        for process in linkers:
            for pid in pids:
                process.link(pid)
        answered(linkers[-1], pids[0])
        program.process.kill()
        for process in linkers:
            assert sorted(process.take_exit()[0] for _ in pids) == sorted(pids)
        assert_no_more_exits(*linkers)


def test_linking_twice_to_a_remote_process_is_linking_once(linker):
    with linkees() as (program, [pid]):
        linker.link(pid)
        linked(linker, pid)
        program.process.kill()
        assert linker.take_exit()[0] == pid
        assert_no_more_exits(linker)


def test_a_stopped_os_process_is_told_as_silent(impatient):
    with linkees() as (program, [pid]):
        linked(impatient, pid)
        program.process.send_signal(signal.SIGSTOP)
        told, reason = impatient.take_exit()
        assert told == pid
        assert "silent" in reason
        assert_no_more_exits(impatient)


def test_an_idle_os_process_that_runs_is_not_silent(impatient):
    with linkees() as (_, [pid]):
        linked(impatient, pid)
        sent = impatient.context.statistics()["messages_sent"]
        eventually(lambda: impatient.context.statistics()["messages_sent"] >= sent + MANY, "many refreshes")
        assert_no_more_exits(impatient)


def test_a_peer_whose_context_stops_is_told(linker):
    with linkees(2) as (program, pids):
        for pid in pids:
            linker.link(pid)
        answered(linker, pids[0])
        linker.send(pids[0], "stop")
        assert sorted(linker.take_exit()[0] for _ in pids) == pids
        assert program.process.wait(DEADLINE) == 0
        assert_no_more_exits(linker)


def test_a_remote_process_that_terminates_while_its_context_lives_is_told_by_its_notice(linker):
    with linkees(2) as (_, pids):
        for pid in pids:
            linker.link(pid)
        answered(linker, pids[1])
        linker.send(pids[0], "end")
        assert linker.take_exit() == (pids[0], "terminated")
        answered(linker, pids[1])
        assert_no_more_exits(linker)


def test_a_remote_process_that_terminates_is_told_by_the_refresh_when_no_notice_comes(unreachable, other_context):
    linkee = spawned(other_context, "linkee")
    unreachable.link(pid := linkee.pid)
    unreachable.send(pid, "note")
    linkee.take()
    other_context.terminate(pid)
    assert unreachable.take_exit() == (pid, "terminated")
    eventually(lambda: other_context.statistics().get("connects_failed"), "the notice could not be sent")
    assert_no_more_exits(unreachable)


class Talker(Recorder):
    """Links, and says much in one turn."""

    def begin(self, to):
        self.link(to)
        for _ in range(100):
            self.send(to, "note")
        self.send(to, "fence")


def test_a_remote_process_that_terminates_is_told_also_behind_more_unanswered_messages_than_we_keep(
    unreachable, other_context, monkeypatch
):
    monkeypatch.setattr("compactor._aio.outbound._MOST_UNANSWERED", 10)
    linkee = spawned(other_context, "linkee")
    talker = Talker("talker")
    unreachable.context.spawn(talker)
    unreachable.context.dispatch(talker.pid, "begin", pid := linkee.pid)
    assert len(linkee.take_until_fence()) == 100
    assert "unattributed" not in unreachable.context.statistics()
    other_context.terminate(pid)
    assert talker.take_exit()[0] == pid
    assert_no_more_exits(talker)


def test_an_id_that_never_existed_on_a_living_compactor_is_told(linker):
    with linkees() as (_, [pid]):
        nobody = PID(pid.ip, pid.port, "nobody")
        linker.link(pid)
        linker.link(nobody)
        assert linker.take_exit() == (nobody, "no such process")
        assert_no_more_exits(linker)


def test_an_os_process_that_comes_back_at_the_same_pid_can_be_linked_again(linker):
    port = unused_port()
    for _ in range(2):
        with linkees(1, port) as (program, [pid]):
            linked(linker, pid)
            assert_no_more_exits(linker)
            program.process.kill()
            assert linker.take_exit()[0] == pid
            assert_no_more_exits(linker)


class Blocker(Recorder):
    """Links, and holds up the thread of its context whenever its link is to be refreshed."""

    def begin(self, to):
        self.link(to)
        for times in (1, 2):
            self.context.delay(times * REFRESH, self.pid, "block")

    def block(self):
        threading.Event().wait(1.5 * SHORT_SILENCE)
        self.seen.put(("blocked",))


def test_a_living_peer_is_not_silent_because_our_own_handlers_block(make_refreshing_context):
    context = make_refreshing_context(link_silence=SHORT_SILENCE)
    blocker = Blocker()
    context.spawn(blocker)
    with linkees() as (_, [pid]):
        context.dispatch(blocker.pid, "begin", pid)
        for _ in range(2):
            assert blocker.take() == ("blocked",)
        answered(blocker, pid)
        assert_no_more_exits(blocker)


# ---- incarnations and answers


def test_a_successor_with_the_same_pid_does_not_hide_that_the_linkee_is_gone(unreachable, other_context):
    linkee = spawned(other_context, "linkee")
    unreachable.link(pid := linkee.pid)
    unreachable.send(pid, "note")
    linkee.take()
    other_context.terminate(pid)
    eventually_spawned(other_context, "linkee")
    told, reason = unreachable.take_exit()
    assert told == pid
    assert "terminated" in reason
    assert_no_more_exits(unreachable)


def test_another_incarnation_on_the_same_connection_is_a_death(refreshing, peer):
    refreshing.link(peer.pid("linkee"))
    connection, nonce = accept_linked(peer, compactor_202(b"one"))
    assert take_link(connection) == nonce
    connection.send(compactor_202(b"one"))
    take_link(connection)
    assert_no_more_exits(refreshing)
    connection.send(compactor_202(b"two"))
    told, reason = refreshing.take_exit()
    assert told == peer.pid("linkee")
    assert "another process has its PID" in reason
    assert_no_more_exits(refreshing)


def test_a_404_of_a_compactor_is_a_death(refreshing, peer):
    refreshing.link(peer.pid("linkee"))
    connection, _ = accept_linked(peer, compactor_202(b"one"))
    take_link(connection)
    connection.send(COMPACTOR_404)
    assert refreshing.take_exit() == (peer.pid("linkee"), "terminated")
    assert_no_more_exits(refreshing)


@pytest.mark.parametrize(
    "answer",
    [ACCEPTED, GO_ACCEPTED, GO_404, b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", b""],
    ids=["202 of libprocess", "202 of mesos-go", "404 of mesos-go", "503", "never any"],
)
def test_a_peer_without_the_extension_stays_linked_whatever_it_answers(impatient, peer, answer):
    impatient.link(peer.pid("linkee"))
    connection, nonce = accept_linked(peer, answer)
    for _ in range(MANY):
        assert take_link(connection) == nonce
        connection.send(answer)
    assert_no_more_exits(impatient)
    connection.close()
    assert impatient.take_exit()[0] == peer.pid("linkee")


def test_a_peer_whose_202_has_no_headers_at_all_stays_linked(impatient, peer):
    impatient.link(peer.pid("linkee"))
    bare = b"HTTP/1.1 202 Accepted\r\n\r\n"
    connection, _ = accept_linked(peer, bare)
    for _ in range(MANY):
        take_link(connection)
        connection.send(bare)
    assert_no_more_exits(impatient)


def test_a_peer_that_once_answered_too_often_stays_linked_as_long_as_it_answers(impatient, peer):
    impatient.link(peer.pid("linkee"))
    connection, _ = accept_linked(peer, ACCEPTED + ACCEPTED)
    for _ in range(MANY):
        take_link(connection)
        connection.send(ACCEPTED)
    assert_no_more_exits(impatient)


def test_refreshes_do_not_pile_up_for_a_peer_that_reads_nothing(refreshing):
    with RawServer(receive_buffer=4096) as peer, RawServer() as clock:
        for server in (peer, clock):
            refreshing.link(server.pid("linkee"))
        connection = peer.accept()
        take_link(connection)
        refreshing.send(peer.pid("linkee"), "note", bytes(16 * 1024 * 1024))
        ticks = clock.accept()
        for _ in range(MANY):
            take_link(ticks)
        refreshing.send(peer.pid("linkee"), "fence")
        paths = []
        while (path := connection.request().path) != "/linkee/fence":
            paths.append(path)
        assert paths.count("/linkee/note") == 1
        assert paths.count("/linkee/__link__") <= 2  # one before the note and one behind it


def test_a_peer_that_answers_and_closes_each_time_stays_linked_until_it_refuses(refreshing):
    with RawServer() as peer:
        refreshing.link(peer.pid("linkee"))
        for _ in range(3):
            connection = peer.accept()
            take_link(connection)
            connection.send(b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            assert connection.ended_in_order()
        assert_no_more_exits(refreshing)
    assert refreshing.take_exit()[0] == peer.pid("linkee")


def test_a_peer_that_answered_and_then_falls_silent_is_told_though_it_reads_on(impatient, peer):
    impatient.link(peer.pid("linkee"))
    connection, _ = accept_linked(peer)
    requests = connection.rest()
    assert {request.path for request in requests} == {"/linkee/__link__"}
    assert "silent" in impatient.take_exit()[1]


def test_a_link_made_again_to_a_silent_peer_is_not_told_of_the_old_connections_end(make_refreshing_context, peer):
    persistent = Persistent()
    context = make_refreshing_context(link_silence=SHORT_SILENCE)
    context.spawn(persistent)
    persistent.link(peer.pid("linkee"))
    old, _ = accept_linked(peer)
    assert "silent" in persistent.take_exit()[1]
    old.rest()
    new = peer.accept()
    take_link(new)
    assert_no_more_exits(persistent)
    new.close()
    assert "connection lost" in persistent.take_exit()[1]


# ---- the link connection


@pytest.mark.parametrize("end", ["close", "half_close", "reset"])
def test_a_link_connection_that_the_peer_ends_is_told_once_to_every_link(context, linker, peer, end):
    second = spawned(context, "second")
    for process in (linker, second):
        process.link(peer.pid("linkee"))
        process.link(peer.pid("sibling"))
    connection = peer.accept()
    connection.accept_all(4)
    getattr(connection, end)()
    for process in (linker, second):
        exits = [process.take_exit() for _ in range(2)]
        assert {pid for pid, _ in exits} == {peer.pid("linkee"), peer.pid("sibling")}
        assert all("connection lost" in reason for _, reason in exits)
    assert_no_more_exits(linker, second)
    assert context.statistics()["exited"] == 4


def test_a_break_is_not_told_to_the_successor_of_a_terminated_linker(context, linker, peer):
    linker.link(peer.pid("linkee"))
    connection, nonce = accept_linked(peer)
    context.terminate(linker.pid)
    successor = eventually_spawned(context, "linker")
    assert post(successor.pid, "__exited__", nonce + b" terminated", peer.pid("linkee")) == 202
    connection.reset()
    wait_until_lost(context)
    assert_no_more_exits(successor)
    assert context.statistics()["exited"] == 0


def test_names_of_one_address_share_its_connection_and_each_link_is_told_by_its_own(linker, peer, monkeypatch):
    resolve_to_here(monkeypatch, "there.example")
    alias, pid = peer.pid("linkee", host="there.example"), peer.pid("linkee")
    linker.link(alias)
    linker.link(pid)
    connection = peer.accept()
    connection.accept_all(2)
    assert not peer.is_called(PAUSE)
    connection.close()
    assert {linker.take_exit()[0] for _ in range(2)} == {alias, pid}
    assert_no_more_exits(linker)


def test_a_remote_process_linked_by_two_names_is_told_by_both(refreshing, other_context, monkeypatch):
    resolve_to_here(monkeypatch, "there.example")
    linkee = spawned(other_context, "linkee")
    pid, alias = linkee.pid, PID("there.example", other_context.port, "linkee")
    for to in (pid, alias):
        refreshing.link(to)
        refreshing.send(to, "note")
        linkee.take()
    other_context.terminate(pid)
    assert {refreshing.take_exit()[0] for _ in range(2)} == {alias, pid}
    assert_no_more_exits(refreshing)


def test_a_link_does_not_change_the_order_of_messages_around_it(linker, other_context):
    linkee = spawned(other_context, "linkee")
    for number in range(1000):
        linker.send(linkee.pid, "note", b"%d" % number)
        if number % 100 == 50:
            linker.link(linkee.pid)
    linker.send(linkee.pid, "fence")
    assert linkee.take_until_fence() == [b"%d" % number for number in range(1000)]


def test_the_connection_of_a_link_stays_open_while_an_idle_one_is_closed_in_order(make_context):
    linker = spawned(make_context(idle_seconds=0.2), "linker")
    with RawServer() as linked_peer, RawServer() as other_peer:
        linker.link(linked_peer.pid("linkee"))
        kept, _ = accept_linked(linked_peer)
        linker.send(other_peer.pid("other"), "note")
        idle = other_peer.accept()
        idle.accept_all(1)
        assert idle.ended_in_order()  # it was opened after the one that is kept
        assert not kept.has_more()
        linker.send(linked_peer.pid("linkee"), "note")
        assert kept.request().path == "/linkee/note"
        linker.send(other_peer.pid("other"), "note", b"more")
        again = other_peer.accept()
        assert again.accept_all(1)[0].body == b"more"
        assert again.ended_in_order()
        assert_no_more_exits(linker)
        assert linker.context.statistics()["dead_letters"] == 0


def test_a_connection_that_no_link_needs_any_more_is_closed_after_the_idle_time(make_context, peer):
    context = make_context(idle_seconds=0.2)
    linker = spawned(context, "linker")
    linker.link(peer.pid("linkee"))
    connection, _ = accept_linked(peer)
    context.terminate(linker.pid)
    assert connection.ended_in_order()


def test_the_end_of_another_senders_connection_to_a_go_peer_is_no_death(context, linker, peer):
    linker.link(peer.pid("linkee"))
    link_connection, _ = accept_linked(peer, GO_ACCEPTED)
    other = spawned(context, "other")
    other.send(peer.pid("linkee"), "note")
    other_connection = peer.accept()
    assert other_connection.request().sender == other.pid
    other_connection.send(GO_ACCEPTED)
    other_connection.close()  # mesos-go closes what it accepted nothing on for 10 s
    wait_until_lost(context)
    assert_no_more_exits(linker)
    link_connection.close()
    assert linker.take_exit()[0] == peer.pid("linkee")


def test_the_end_of_the_linkers_own_connection_to_a_go_peer_is_told_however_its_pid_was_written(context, linker, peer):
    context.connect_per_sender(peer.pid("linkee"))
    context.send(PID(context.ip, context.port, "linker"), peer.pid("linkee"), "note")
    connection = peer.accept()
    assert connection.request().sender == linker.pid
    connection.send(GO_ACCEPTED)
    linker.link(peer.pid("linkee"))
    take_link(connection)
    connection.send(GO_404)
    connection.close()
    assert linker.take_exit()[0] == peer.pid("linkee")


# ---- reconnecting


def test_reconnecting_moves_to_a_new_connection_when_the_old_one_has_answered(linker, peer, monkeypatch):
    monkeypatch.setattr("compactor._watching.RECONNECT_SECONDS", DEADLINE)
    linker.link(peer.pid("linkee"))
    old, nonce = accept_linked(peer)
    linker.send(peer.pid("linkee"), "note", b"before")
    assert old.request().body == b"before"
    linker.link(peer.pid("linkee"), reconnect=True)
    linker.send(peer.pid("linkee"), "note", b"after")
    assert not peer.is_called(PAUSE)  # what follows must not overtake what is unanswered
    old.send(ACCEPTED)
    assert old.ended_in_order()
    new, again = accept_linked(peer)
    assert again == nonce
    assert new.accept_all(1)[0].body == b"after"
    assert_no_more_exits(linker)
    new.close()
    assert linker.take_exit()[0] == peer.pid("linkee")
    assert_no_more_exits(linker)
    assert linker.context.statistics()["dead_letters"] == 0


def test_a_first_link_may_reconnect(linker, peer):
    linker.send(peer.pid("linkee"), "note", b"before")
    old = peer.accept()
    old.accept_all(1)
    linker.link(peer.pid("linkee"), reconnect=True)
    assert old.ended_in_order()
    new, _ = accept_linked(peer)
    new.close()
    assert linker.take_exit()[0] == peer.pid("linkee")
    assert_no_more_exits(linker)


def test_reconnecting_gives_up_a_stale_connection_without_an_exited_and_sends_nothing_twice(linker, peer):
    linker.link(peer.pid("linkee"))
    old, _ = accept_linked(peer)
    linker.send(peer.pid("linkee"), "note", b"unanswered")
    assert old.request().body == b"unanswered"
    linker.link(peer.pid("linkee"), reconnect=True)
    linker.send(peer.pid("linkee"), "note", b"after")
    new, _ = accept_linked(peer)
    assert new.accept_all(1)[0].body == b"after"
    assert old.at_end()
    assert_no_more_exits(linker)
    assert [letter.reason for letter in linker.context.dead_letters] == ["connection lost, unanswered"]


def test_reconnecting_gives_up_a_stale_connection_that_takes_no_more_bytes(linker):
    with RawServer(receive_buffer=4096) as peer:
        linker.link(peer.pid("linkee"))
        old, _ = accept_linked(peer)
        linker.send(peer.pid("linkee"), "note", bytes(16 * 1024 * 1024))
        assert old.file.readline().startswith(b"POST /linkee/note")  # and reads no further
        linker.link(peer.pid("linkee"), reconnect=True)
        linker.send(peer.pid("linkee"), "note", b"after")
        new, _ = accept_linked(peer)
        assert new.accept_all(1)[0].body == b"after"
        assert_no_more_exits(linker)


def test_reconnecting_to_an_address_where_nobody_listens_any_more_is_told_once(linker):
    with RawServer() as peer:
        linker.link(peer.pid("linkee"))
        old, _ = accept_linked(peer)
        peer._listener.close()
        linker.link(peer.pid("linkee"), reconnect=True)
        assert old.ended_in_order()
        pid, reason = linker.take_exit()
        assert pid == peer.pid("linkee")
        assert "refused" in reason
        assert_no_more_exits(linker)


def test_a_peer_that_is_silent_while_and_after_it_is_reconnected_is_told(impatient, peer):
    impatient.link(peer.pid("linkee"))
    old, _ = accept_linked(peer)
    take_link(old)  # it will never be answered
    impatient.link(peer.pid("linkee"), reconnect=True)
    assert "silent" in impatient.take_exit()[1]
    assert_no_more_exits(impatient)


def test_messages_around_reconnects_arrive_in_order_and_none_twice(linker, other_context, monkeypatch):
    monkeypatch.setattr("compactor._watching.RECONNECT_SECONDS", DEADLINE)
    linkee = spawned(other_context, "linkee")
    seen = []
    for block in range(5):
        for number in range(200):
            linker.send(linkee.pid, "note", b"%d %d" % (block, number))
        seen.append(linkee.take()[2])  # so that there is a connection, and maybe something unanswered on it
        linker.link(linkee.pid, reconnect=True)
    linker.send(linkee.pid, "fence")
    seen += linkee.take_until_fence()
    assert seen == [b"%d %d" % (block, number) for block in range(5) for number in range(200)]
    assert other_context.statistics()["connections_accepted"] > 1
    assert_no_more_exits(linker)


# ---- notices of death


def test_a_notice_with_the_nonce_of_a_link_is_told_once_with_the_reason_it_gives(context, linker, peer):
    linker.link(peer.pid("linkee"))
    _, nonce = accept_linked(peer)
    assert post(linker.pid, "__exited__", nonce + b" it was tired", peer.pid("linkee")) == 202
    assert linker.take_exit() == (peer.pid("linkee"), "it was tired")
    assert context.statistics()["stale_exits"] == 0
    assert post(linker.pid, "__exited__", nonce + b" it was tired", peer.pid("linkee")) == 202
    assert_no_more_exits(linker)
    assert context.statistics()["stale_exits"] == 1


def test_a_forged_notice_is_ignored_and_counted(context, linker, peer):
    linker.link(peer.pid("linkee"))
    connection, nonce = accept_linked(peer)
    other = spawned(context, "other")
    wrong = b"%032x" % (int(nonce, 16) ^ 1)
    forged = [b"", b"terminated", nonce, wrong + b" x", nonce[:31] + b" x", nonce.upper() + b"G x", b"0" * 32 + b" x"]
    for body in forged:
        assert post(linker.pid, "__exited__", body, peer.pid("linkee")) == 202
    assert post(other.pid, "__exited__", nonce + b" x", peer.pid("linkee")) == 202  # another process's nonce
    assert post(PID(context.ip, context.port, "nobody"), "__exited__", nonce + b" x") == 202
    assert context.statistics()["stale_exits"] == len(forged) + 2
    assert_no_more_exits(linker, other)
    connection.close()
    assert linker.take_exit()[0] == peer.pid("linkee")


def test_a_notice_for_a_link_that_has_ended_does_not_end_the_next_one(context, linker, peer):
    linker.link(peer.pid("linkee"))
    connection, stale = accept_linked(peer)
    connection.close()
    linker.take_exit()
    linker.link(peer.pid("linkee"))
    _, nonce = accept_linked(peer)
    assert nonce != stale
    assert post(linker.pid, "__exited__", stale + b" terminated", peer.pid("linkee")) == 202
    assert context.statistics()["stale_exits"] == 1
    assert_no_more_exits(linker)


@pytest.mark.parametrize("name", ["__link__", "__exited__"])
def test_the_messages_of_links_cannot_be_sent_by_users(linker, peer, name):
    with pytest.raises(ValueError, match="reserved"):
        linker.send(peer.pid("linkee"), name)


# ---- the linkee's side


def link_message(to, sender, nonce=b"0123456789abcdef" * 2, body=None):
    """Return a `__link__` as another implementation of the extension may send it."""
    body = nonce + b" 5" if body is None else body
    head = f"POST /{to.id}/__link__ HTTP/1.1\r\nLibprocess-From: {sender}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


SENDER = PID("127.0.0.1", 9, "elsewhere")


def test_a_link_is_answered_with_the_incarnation_and_kept_from_the_process(context):
    linkee = spawned(context, "linkee")
    with RawClient(context) as client:
        incarnations = set()
        for _ in range(2):
            client.send(link_message(linkee.pid, SENDER))
            answer = client.answer()
            assert answer.status == 202
            assert answer.headers["server"].startswith("compactor/")
            incarnations.add(answer.headers["compactor-incarnation"])
        assert len(incarnations) == 1
        context.terminate(linkee.pid)
        linkee = eventually_spawned(context, "linkee")
        client.send(link_message(linkee.pid, SENDER))
        assert client.answer().headers["compactor-incarnation"] not in incarnations
    assert_no_more_exits(linkee)
    assert context.statistics()["dead_letters"] == 0  # nothing looked for a handler


def test_a_link_to_nobody_is_answered_with_404(context):
    with RawClient(context) as client:
        client.send(link_message(PID(context.ip, context.port, "nobody"), SENDER))
        answer = client.answer()
        assert answer.status == 404
        assert answer.headers["server"].startswith("compactor/")


@pytest.mark.parametrize("body", [b"", b"5", b"a" * 32, b"A" * 32 + b" 5", b"a" * 31 + b" 5", b"a" * 32 + b" -5"])
def test_a_link_without_nonce_or_time_is_refused(context, body):
    linkee = spawned(context, "linkee")
    with RawClient(context) as client:
        client.send(link_message(linkee.pid, SENDER, body=body))
        assert client.answer().status == 400


def test_the_notice_goes_once_to_the_linkers_that_are_still_connected_and_to_no_other(context):
    linkee = spawned(context, "linkee")
    pid = linkee.pid
    with RawServer() as gone, RawServer() as here, RawClient(context) as client:
        with RawClient(context) as lost:
            lost.send(link_message(pid, gone.pid("linker")))
            assert lost.answer().status == 202
        eventually(lambda: context.statistics()["connections_inbound"] == 1, "the lost connection is known to be so")
        nonce = b"f" * 32
        for _ in range(2):
            client.send(link_message(pid, here.pid("linker"), nonce))
            assert client.answer().status == 202
        context.terminate(pid)
        connection = here.accept()
        notice = connection.accept_all(1)[0]
        assert (notice.path, notice.sender, notice.body) == ("/linker/__exited__", pid, nonce + b" terminated")
        assert not gone.is_called(PAUSE)
        assert not connection.has_more()


def test_a_notice_that_cannot_be_sent_is_no_dead_letter(context):
    linkee = spawned(context, "linkee")
    with RawClient(context) as client:
        client.send(link_message(linkee.pid, PID("127.0.0.1", unused_port(), "linker")))
        assert client.answer().status == 202
        context.terminate(linkee.pid)
        eventually(lambda: context.statistics().get("connects_failed"), "the notice could not be sent")
    assert context.statistics()["dead_letters"] == 0


def test_a_linker_that_refreshes_no_more_is_forgotten(monkeypatch, make_context):
    monkeypatch.setattr("compactor._watching._SWEEP_SECONDS", 0.05)
    context = make_context()
    linkee = spawned(context, "linkee")
    with RawServer() as tired, RawServer() as here, RawClient(context) as client:
        for peer, body in ((tired, b"a" * 32 + b" 1"), (here, b"b" * 32 + b" 1000")):
            client.send(link_message(linkee.pid, peer.pid("linker"), body=body))
            assert client.answer().status == 202
        eventually(lambda: len(linkee._compactor_cell.watchers) == 1, "one is forgotten")
        context.terminate(linkee.pid)
        assert here.accept().accept_all(1)[0].path == "/linker/__exited__"
        assert not tired.is_called(PAUSE)


def test_a_connection_may_bring_only_so_many_linkers(monkeypatch, context):
    monkeypatch.setattr("compactor._watching._MOST_WATCHERS", 2)
    linkee = spawned(context, "linkee")
    with RawServer() as peer, RawClient(context) as client, RawClient(context) as another:
        for connection, name in ((client, "a"), (client, "b"), (client, "c"), (client, "a"), (another, "d")):
            connection.send(link_message(linkee.pid, peer.pid(name)))
            assert connection.answer().status == 202
        assert context.statistics()["watchers_refused"] == 1
        context.terminate(linkee.pid)
        notices = peer.accept().accept_all(3)
        assert [notice.path for notice in notices] == ["/a/__exited__", "/b/__exited__", "/d/__exited__"]


def test_two_contexts_whose_processes_link_each_other_both_stop(make_context):
    contexts = [make_context(), make_context()]
    one, two = (spawned(context, "mutual") for context in contexts)
    one.link(two.pid)
    two.link(one.pid)
    for sender, receiver in ((one, two), (two, one)):
        sender.send(receiver.pid, "note")
        receiver.take()
    pid = one.pid
    contexts[0].stop()
    assert two.take_exit()[0] == pid
    contexts[1].stop()
    assert not contexts[1].is_alive()

"""The path table: what serves which path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.http.routes import DEFAULT_METHODS, RouteTable, allow, check_path, split_target


def serves(installed, path):
    """Return the installed path that serves `path`, or None."""
    found = RouteTable({route: (DEFAULT_METHODS, route) for route in installed}).find(path)
    return found and found[0]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a//", "/a"),
        ("//a", "/a"),
        ("/a/b", "/a/b"),
        ("/a/b/c", "/a/b"),
        ("/a/b/c/d", "/a/b/c/d"),
        ("/a/b/c/d/e/f", "/a/b/c/d"),
        ("/a/x/c/d", "/a"),
        ("/a//b", "/a"),
        ("/ab", None),
        ("/A", None),
        ("/b", None),
        ("", None),
        ("/", None),
    ],
)
def test_the_longest_installed_prefix_by_whole_segments_serves_a_path(path, route):
    assert serves(["/a", "/a/b", "/a/b/c/d"], path) == route


@pytest.mark.parametrize(("path", "route"), [("", "/"), ("/", "/"), ("/a", None), ("/a/b", None)])
def test_the_root_route_serves_the_process_itself_and_nothing_below(path, route):
    assert serves(["/"], path) == route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/a%20b", "/a%20b"),
        ("/caf%C3%A9/menu", "/café"),
        ("/%61", "/a"),
        ("/%61/%62", "/a/b"),
        ("/a/%62", "/a/b"),
        ("/a%2Fb", None),
        ("/a%2fb", None),
        ("/a/%zz", "/a"),
        ("/%6", None),
        ("/%FF", None),
        ("/%61+", None),
    ],
)
def test_segments_are_compared_raw_and_then_strictly_decoded_one_by_one(path, route):
    assert serves(["/a", "/a/b", "/a%20b", "/café"], path) == route


def test_a_longer_decoded_match_wins_over_a_shorter_raw_one_and_a_raw_one_over_a_decoded_one_of_its_length():
    assert serves(["/a", "/a/b"], "/a/%62/c") == "/a/b"
    assert serves(["/%61", "/a"], "/%61") == "/%61"


def test_an_escape_that_is_no_utf_8_equals_no_route_not_even_the_replacement_character():
    assert serves(["/\ufffd"], "/%FF") is None
    assert serves(["/\ufffd"], "/%EF%BF%BD") == "/\ufffd"


def test_a_table_without_routes_finds_nothing():
    assert [serves([], path) for path in ("", "/", "/a")] == [None, None, None]


def test_the_methods_of_a_route_are_found_with_its_handler():
    handler = object()
    assert RouteTable({"/a/": (frozenset({"PUT"}), handler)}).find("/a/b") == (handler, frozenset({"PUT"}))


def test_of_two_spellings_of_one_path_the_later_counts():
    table = RouteTable({"/a": (DEFAULT_METHODS, "base"), "/a/": (DEFAULT_METHODS, "override")})
    assert table.find("/a") == ("override", DEFAULT_METHODS)


def test_a_path_of_very_many_segments_is_looked_up_only_as_deep_as_the_routes_go():
    class Counting(dict):
        lookups = 0

        def get(self, key, default=None):
            self.lookups += 1
            return super().get(key, default)

    table = RouteTable({"/x/y": (DEFAULT_METHODS, None)})
    table._routes = Counting(table._routes)
    assert table.find("/a" * 30_000) is None
    assert table._routes.lookups <= 4


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("", "write '/'"),
        ("hello", "write '/hello'"),
        ("/a?b=c", "leave out the query"),
        ("/a#b", "leave out the query and the fragment"),
        ("/a b", "no white space"),
        ("/a\tb", "no white space"),
        ("/a\r\nb", "no white space or control characters"),
        ("/a\x00b", "control characters"),
        ("/a\x7fb", "control characters"),
        ("//a", "single slashes"),
        ("/a//", "single slashes"),
    ],
)
def test_a_route_that_no_request_could_reach_is_refused_with_its_path_and_the_remedy(path, remedy):
    with pytest.raises(ValueError, match="the route") as caught:
        RouteTable({path: (DEFAULT_METHODS, None)})
    assert repr(path) in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(("path", "checked"), [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b/", "/a/b")])
def test_a_trailing_slash_is_stripped_from_all_but_the_root(path, checked):
    assert check_path(path) == checked


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/id/a/b", ("id", "/a/b")),
        ("/id/", ("id", "/")),
        ("/id", ("id", "")),
        ("/", ("", "")),
        ("//a", ("", "/a")),
        ("/slave%281%29/state", ("slave%281%29", "/state")),
    ],
)
def test_a_target_is_split_into_the_raw_id_and_what_follows(path, parts):
    assert split_target(path) == parts


def test_allow_lists_exactly_what_is_served_in_order():
    assert allow(DEFAULT_METHODS) == "GET, HEAD"
    assert allow(frozenset({"PUT", "DELETE"})) == "DELETE, PUT"


SEGMENT = st.text("ab%/21", min_size=1, max_size=4).filter(lambda text: "/" not in text)


@given(st.lists(st.lists(SEGMENT, min_size=1, max_size=3), max_size=5), st.lists(SEGMENT, max_size=5))
def test_what_is_found_is_the_longest_prefix_that_a_plain_search_finds(installed, wanted):
    from urllib.parse import unquote

    def matches(route):
        mine = wanted[: len(route)]
        return route == mine or ("%" not in "".join(map(unquote, mine)) and route == list(map(unquote, mine)))

    candidates = [route for route in installed if len(route) <= len(wanted) and matches(route)]
    found = serves(["/" + "/".join(route) for route in installed], "/" + "/".join(wanted))
    if candidates:
        assert found is not None
        assert found.count("/") == max(map(len, candidates))
    elif "%" not in "".join(wanted):
        assert found is None

"""The driver of the benchmarks: a tiny case of ours runs, is checked and is written down; nothing is timed."""

import dataclasses
import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import cases, driver, report  # noqa: E402 - the suite is beside the package, not in it
from compactor.cli import main  # noqa: E402

CASE = next(case for case in cases.CASES if case.name == "one_way")
OURS = next(one for one in CASE.contestants if one.label == cases.HANDLER)


def _only(*contestants):
    return dataclasses.replace(CASE, contestants=contestants, targets=())


def test_a_tiny_case_is_played_in_turns_and_written_as_json_and_as_a_table(tmp_path):
    chosen = ["one_way", "--only", cases.MAIN, "--only", cases.HANDLER]
    status = driver.main([*chosen, "--scale", "tiny", "--rounds", "2", "--no-plots", "--output", str(tmp_path)])

    assert status == 0
    results = json.loads((tmp_path / "results.json").read_text())
    contestants = results["cases"][0]["contestants"]
    assert [one["label"] for one in contestants] == [cases.MAIN, cases.HANDLER]
    for one in contestants:
        assert len(one["rounds"]) == 2
        assert one["least"] <= one["value"] <= one["most"]
        assert min(one["client_us"], one["server_us"], one["client_mib"], one["server_mib"]) > 0
    table = (tmp_path / "results.md").read_text()
    assert table == report.as_markdown(results)
    assert f"| {cases.HANDLER} |" in table


def test_a_contestant_that_receives_something_else_than_was_sent_has_failed():
    # Its bodies begin with the number of the sender, which is another one than the receiver expects.
    impostor = dataclasses.replace(OURS.client, options={"sender": 7})
    result = driver.run_case(_only(dataclasses.replace(OURS, client=impostor)), driver.TINY, 1, float("inf"))

    (one,) = result["contestants"]
    assert "the result is wrong" in one["failed"]
    assert "value" not in one


def test_a_peer_that_cannot_be_had_is_skipped_with_its_reason(monkeypatch):
    def missing():
        raise driver.Missing("not on this machine")

    monkeypatch.setattr(driver.environments, "_made", {})
    monkeypatch.setitem(driver.environments._MAKERS, "pyzmq", missing)
    zmq = next(one for one in CASE.contestants if one.client.peer == "pyzmq")
    result = driver.run_case(_only(zmq), driver.TINY, 1, float("inf"))

    (one,) = result["contestants"]
    assert one["skipped"] == "not on this machine"
    run = {"machine": driver.machine(), "when": "now", "rounds": 1, "warm_up": False, "scale": "tiny"}
    shown = report.as_markdown({**run, "cases": [result]})
    assert f"skipped: {zmq.label}: not on this machine" in shown


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_the_targets_of_a_case_name_those_who_play_it(case):
    assert len(set(case.labels)) == len(case.labels)
    for target in case.targets:
        assert target.ours in case.labels
        assert target.theirs is None or target.theirs in case.labels
        assert (target.at_least is None) != (target.at_most is None)
    for contestant in case.contestants:
        programs = [contestant.client, *contestant.others] + ([contestant.server] if contestant.server else [])
        for program in programs:
            environment, file = cases.PROGRAMS[program.peer]
            assert environment in driver.environments._MAKERS
            assert (driver.PEERS / file).is_file()


def test_the_command_shows_the_cases(capfd):
    assert main(["bench", "--list"]) == 0
    assert "one_way: One way" in capfd.readouterr().out


def test_the_command_says_where_the_benchmarks_are_when_it_has_none(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("compactor.cli.__file__", str(tmp_path / "lib" / "compactor" / "cli.py"))

    assert main(["bench"]) == 2
    assert "in the source checkout only" in capsys.readouterr().err

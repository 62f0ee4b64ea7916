"""From the measures of the rounds to what is kept: medians, spread, ratios, targets; and the table in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import Case, Target

Rounds = Mapping[str, Sequence[Mapping[str, float]]]


def judge(case: Case, number: int, found: Rounds, why: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the JSON says of a case."""
    contestants = []
    for one in case.contestants:
        kept: dict[str, Any] = {"label": one.label, **why.get(one.label, {})}
        rounds = found[one.label]
        if rounds and one.label not in why:
            kept["rounds"] = [_rounded(measures["value"]) for measures in rounds]
            for key in rounds[0]:
                values = [measures[key] for measures in rounds]
                kept[key] = _rounded(statistics.median(values))
            kept["least"], kept["most"] = min(kept["rounds"]), max(kept["rounds"])
            kept["size"] = case.size if one.size is None else one.size
        contestants.append(kept)
    played = {one["label"]: found[one["label"]] for one in contestants if "rounds" in one}
    return {
        "name": case.name,
        "title": case.title,
        "unit": case.unit,
        "number": number,
        "less_is_better": case.measure not in ("rate", "bytes", "requests_per_second"),
        "contestants": contestants,
        "targets": [_judged(target, played) for target in case.targets],
    }


def _judged(target: Target, played: Rounds) -> dict[str, Any]:
    wanted = {"at_least": target.at_least} if target.at_least is not None else {"at_most": target.at_most}
    kept: dict[str, Any] = {"ours": target.ours, "theirs": target.theirs, "measure": target.measure, **wanted}
    if target.ours not in played or (target.theirs is not None and target.theirs not in played):
        return {**kept, "met": None}
    ours = [measures[target.measure] for measures in played[target.ours]]
    if target.theirs is None:
        ratios, value = ours, statistics.median(ours)
    else:
        theirs = [measures[target.measure] for measures in played[target.theirs]]
        # The spread is that of neighbours, which shared what else the machine did.
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=False)]
        value = statistics.median(ours) / statistics.median(theirs)
    met = value >= target.at_least if target.at_least is not None else value <= (target.at_most or 0.0)
    return {**kept, "value": _rounded(value), "least": _rounded(min(ratios)), "most": _rounded(max(ratios)), "met": met}


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def shown(value: float) -> str:
    """A figure with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_markdown(results: Mapping[str, Any]) -> str:
    """The table of all cases, and what each has reached."""
    machine = results["machine"]
    intro = (
        f"Measured {results['when']} on {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"{machine['system']}, {machine['python']}: {results['rounds']} rounds"
        f"{' after a warm-up' if results['warm_up'] else ''}, contestants in turns, scale \"{results['scale']}\".\n"
        "Figures are medians, with the least and the most of the rounds in brackets.\n"
        "CPU is microseconds a message, sender or client first; memory is the peak in MiB."
    )
    lines = [
        intro,
        "",
        "| case | who | median | CPU | memory |",
        "|---|---|--:|--:|--:|",
    ]
    for case in results["cases"]:
        title = f"{case['title']}, {case['unit']}"
        for one in case["contestants"]:
            lines.append(f"| {title} | {one['label']} | {_cells(one, results['rounds'])} |")
            title = ""
    lines += ["", "| case | target | wanted | reached | |", "|---|---|--:|--:|---|"]
    for case in results["cases"]:
        title = case["title"]
        for target in case["targets"]:
            lines.append(f"| {title} | {_target_cells(target)} |")
            title = ""
    skipped = {
        (one["label"], one[kind]): kind
        for case in results["cases"]
        for one in case["contestants"]
        for kind in ("skipped", "failed")
        if kind in one
    }
    if skipped:
        lines += ["", *(f"- {kind}: {label}: {reason}" for (label, reason), kind in skipped.items())]
    lines += ["", *(f"- {name}: {version}" for name, version in results.get("versions", {}).items())]
    return "\n".join(lines) + "\n"


def _cells(one: Mapping[str, Any], rounds: int) -> str:
    for kind in ("skipped", "failed"):
        if kind in one:
            return f"{kind} | | "
    if "value" not in one:
        return "not run | | "
    cpu = f"{shown(one['client_us'])} + {shown(one['server_us'])}" if one["server_us"] else shown(one["client_us"])
    memory = f"{one['client_mib']:.0f} + {one['server_mib']:.0f}" if one["server_mib"] else f"{one['client_mib']:.0f}"
    # A quick run has time for fewer.
    played = "" if len(one["rounds"]) == rounds else f", {len(one['rounds'])} of {rounds} rounds"
    return f"{shown(one['value'])} ({shown(one['least'])} to {shown(one['most'])}{played}) | {cpu} | {memory}"


def _target_cells(target: Mapping[str, Any]) -> str:
    what = target["ours"] if target["theirs"] is None else f"{target['ours']} / {target['theirs']}"
    if target["measure"] != "value":
        what += f", {target['measure']}"
    wanted = f"≥ {shown(target['at_least'])}" if "at_least" in target else f"≤ {shown(target['at_most'])}"
    if target["met"] is None:
        return f"{what} | {wanted} | | not measured"
    reached = f"{shown(target['value'])} ({shown(target['least'])} to {shown(target['most'])})"
    return f"{what} | {wanted} | {reached} | {'yes' if target['met'] else '**no**'}"

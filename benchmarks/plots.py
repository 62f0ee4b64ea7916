"""Draws the results: `plots.py results.json FOLDER` writes one plot for each case and one of all targets.

Runs in an environment of its own, which has matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, THEIRS = "#1f6fb4", "#9aa5b1"
MET, MISSED = "#2e8b57", "#c0392b"
# The same results give the same files.
mpl.rcParams.update({"svg.hashsalt": "compactor", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(figure: plt.Figure, folder: Path, name: str) -> None:
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        figure.savefig(folder / f"{name}.{kind}", dpi=144, bbox_inches="tight", metadata=metadata)
    plt.close(figure)


def plot_case(case: dict[str, Any], folder: Path) -> None:
    """A bar for each contestant, from none to its median, with a line from its least to its most."""
    bars = [one for one in case["contestants"] if "value" in one][::-1]
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.34 * len(bars)))
    values = [one["value"] for one in bars]
    spread = [
        [one["value"] - one["least"] for one in bars],
        [one["most"] - one["value"] for one in bars],
    ]
    colours = [OURS if one["label"].startswith("compactor") and "0.3.0" not in one["label"] else THEIRS for one in bars]
    places = range(len(bars))
    axes.barh(places, values, xerr=spread, color=colours, height=0.7, error_kw={"elinewidth": 1, "capsize": 2})
    axes.set_yticks(places, [one["label"] for one in bars])
    for place, one in zip(places, bars, strict=True):
        axes.annotate(f" {shown(one['value'])}", (max(one["most"], one["value"]), place), va="center", fontsize=8)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(case["unit"] + (" (less is better)" if case["less_is_better"] else ""))
    axes.set_title(case["title"], loc="left", fontsize=10)
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6))
    save(figure, folder, case["name"])


def plot_targets(cases: list[dict[str, Any]], folder: Path) -> None:
    """How far each target was reached: 1 is exactly so, more is better."""
    reached = []
    for case in cases:
        for target in case["targets"]:
            if target["met"] is None:
                continue
            value = target["value"] or 1e-9
            least = target.get("at_least")
            share = value / least if least is not None else target["at_most"] / value
            other = f" / {target['theirs']}" if target["theirs"] else ""
            measure = "" if target["measure"] == "value" else f", {target['measure']}"
            reached.append((f"{case['name']}: {target['ours']}{other}{measure}", share, target["met"]))
    if not reached:
        return
    reached.reverse()
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.26 * len(reached)))
    places = range(len(reached))
    axes.barh(places, [share for _, share, _ in reached], color=[MET if met else MISSED for _, _, met in reached])
    axes.set_yticks(places, [name for name, _, _ in reached], fontsize=7)
    axes.margins(y=0.01)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("reached, as a multiple of the target")
    save(figure, folder, "targets")


def main(source: Path, folder: Path) -> None:
    results = json.loads(source.read_text())
    for case in results["cases"]:
        plot_case(case, folder)
    plot_targets(results["cases"], folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""The report of an evaluation: Markdown, JSON, and one HTML file with plots.

Each number has its bootstrap interval and, where an answer was graded, the agreement of that grader with
human labels beside it; where an endpoint graded, its name and how many answers it left unscored.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.files import packaged
from training.measures import Measure

BOTH_SIDES = ("harmful: refused, by answer", "allowed: refused, by answer")
"""The two kinds of refusal that the first plot sets against each other."""
ROW_INCHES, WIDTH_INCHES = 0.22, 9.0


@dataclass(frozen=True)
class Report:
    """What an evaluation found."""

    results: Mapping[str, Mapping[str, Mapping[str, Measure]]]
    """Measures by model, set and name."""
    counts: Mapping[str, str]
    """What was asked of each set and what was left out, in words."""
    notes: Sequence[str]
    """What a reader must know before the numbers."""

    @property
    def sets(self) -> list[str]:
        """Every set that a model was measured on."""
        return list(dict.fromkeys(name for by_set in self.results.values() for name in by_set))

    def measures(self, name: str) -> list[str]:
        """Every measure of a set."""
        return list(dict.fromkeys(m for by_set in self.results.values() for m in by_set.get(name, {})))

    def models(self, name: str) -> list[str]:
        """Every model that was measured on a set."""
        return [model for model, by_set in self.results.items() if name in by_set]

    def cells(self, name: str, measure: str) -> list[Measure | None]:
        """One measure of a set, model by model."""
        return [self.results[model][name].get(measure) for model in self.models(name)]


def as_json(report: Report) -> dict[str, Any]:
    """Plain numbers by model, set and measure."""
    return {
        model: {
            name: {named: found.as_json() for named, found in measures.items()}
            for name, measures in by_set.items()
        }
        for model, by_set in report.results.items()
    }


def as_markdown(report: Report) -> str:
    """One table a set, models side by side."""
    lines = ["# Evaluation", "", *(f"- {note}" for note in report.notes), ""]
    for name in report.sets:
        lines += [f"## {name}", "", report.counts.get(name, ""), ""]
        header = ["measure", *report.models(name), "grader agrees with people"]
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        for row in table(report, name):
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def as_html(report: Report) -> str:
    """The same tables with a plot above each, in one file that needs nothing else."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = packaged("report.html")
    sets = [
        {
            "name": name,
            "count": report.counts.get(name, ""),
            "models": report.models(name),
            "rows": table(report, name),
            "plot": plot(
                {
                    model: {m: found.value for m, found in report.results[model][name].items()}
                    for model in report.models(name)
                }
            ),
        }
        for name in report.sets
    ]
    both = {
        model: {
            f"{name}, {measure}": by_set[name][measure].value
            for measure in BOTH_SIDES
            for name in by_set
            if measure in by_set[name]
        }
        for model, by_set in report.results.items()
    }
    return environment.from_string(template).render(
        notes=report.notes, sets=sets, overview=plot(both) if any(both.values()) else ""
    )


def table(report: Report, name: str) -> list[list[str]]:
    """The rows of a set's table: the measure, a cell a model, the grader's agreement."""
    rows = []
    for measure in report.measures(name):
        cells = report.cells(name, measure)
        given = [cell for cell in cells if cell is not None]
        graders = {str(cell.grader) for cell in given if cell.grader is not None}
        graders |= {f"{cell.graded_by}: not measured here" for cell in given if cell.graded_by}
        found = ["-" if cell is None else str(cell) for cell in cells]
        rows.append([measure, *found, ", ".join(sorted(graders)) or "-"])
    return rows


def plot(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Values with their intervals as an SVG: a row a measure, a colour a model.

    Args:
        found: Shares or means by model and name.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = {name: len(names) - at for at, name in enumerate(names)}
    lowest = min((v.low for values in found.values() for v in values.values()), default=0.0)
    with matplotlib.rc_context({"svg.hashsalt": "evaluation", "svg.fonttype": "none"}):
        height = 1.0 + ROW_INCHES * len(names) * max(1, len(found))
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.add_subplot()
        for at, (model, values) in enumerate(found.items()):
            shown = {name: value for name, value in values.items() if value.value is not None}
            shift = (at - (len(found) - 1) / 2) * 0.7 / max(1, len(found))
            axes.errorbar(
                [value.value for value in shown.values()],
                [rows[name] - shift for name in shown],
                xerr=[
                    [max(0.0, value.value - value.low) for value in shown.values()],
                    [max(0.0, value.high - value.value) for value in shown.values()],
                ],
                fmt="o",
                markersize=4,
                capsize=2,
                label=model,
            )
        axes.set_yticks(list(rows.values()), names, fontsize=8)
        axes.set_xlim(-1.03 if lowest < 0 else -0.03, 1.03)
        axes.grid(axis="x", linewidth=0.4)
        figure.legend(loc="outside upper center", ncols=len(found) or 1, frameon=False, fontsize=8)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue().partition("<svg")[1] + out.getvalue().partition("<svg")[2]

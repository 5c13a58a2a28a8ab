import xml.etree.ElementTree as ET

import pytest

from training.intervals import mean, share
from training.measures import Measure
from training.report import Report, as_html, as_json, as_markdown, plot

AGREES = share([True] * 9 + [False])


def report() -> Report:
    """Two models; one of them on one set only."""
    refused = "harmful: refused, by answer"
    return Report(
        results={
            "base": {"s": {refused: Measure(share([True]), AGREES), "m": Measure(mean([-0.5]))}},
            "sft": {"s": {refused: Measure(share([False]), AGREES)}, "<t>": {"m": Measure(share([]))}},
        },
        counts={"s": "1 of 1 prompts."},
        notes=["What <b>must</b> be known."],
    )


def test_markdown_puts_models_side_by_side_with_the_graders_error() -> None:
    """A row a measure, a column a model, with intervals; a set has columns for the models asked it."""
    text = as_markdown(report())
    assert "| measure | base | sft | grader agrees with people |" in text
    assert (
        "| harmful: refused, by answer | 1.000 [1.000, 1.000] (1/1) | 0.000 [0.000, 0.000] (0/1) "
        "| 0.900 [0.700, 1.000] (9/10) |"
    ) in text
    assert "| m | -0.500 [-0.500, -0.500] (n = 1) | - | - |" in text
    assert "| measure | sft | grader agrees with people |\n|---|---|---|\n| m | - | - |" in text


def test_json_holds_plain_numbers() -> None:
    """By model, set and measure."""
    found = as_json(report())
    assert found["base"]["s"]["harmful: refused, by answer"] == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "hits": 1,
        "of": 1,
        "grader_agreement": 0.9,
    }
    assert found["base"]["s"]["m"]["value"] == -0.5


def test_html_is_one_file_with_a_plot_a_set_and_all_numbers() -> None:
    """It fetches nothing, and no text of the data becomes markup."""
    text = as_html(report())
    assert text.count("<svg") == 3
    assert "1.000 [1.000, 1.000] (1/1)" in text
    assert "&lt;t&gt;" in text
    assert "What &lt;b&gt;must&lt;/b&gt; be known." in text
    assert "<script" not in text
    assert "<link" not in text


def test_the_same_numbers_give_the_same_plot() -> None:
    """Byte for byte, so that a report can be compared with an earlier one."""
    found = {"base": {"m": share([True, False])}}
    assert plot(found) == plot(found)


@pytest.mark.parametrize("low", [0.2, -0.2])
def test_a_plot_names_every_measure_and_model(low: float) -> None:
    """Differences below zero included."""
    svg = plot({"base": {"first": mean([low])}, "sft": {"second": mean([0.5]), "nothing": share([])}})
    words = {text.strip() for text in ET.fromstring(svg).itertext()}
    assert {"first", "second", "nothing", "base", "sft"} <= words

# SPDX-License-Identifier: Apache-2.0
"""Pictures of results say what was measured, with axes, units and names."""

import pytest

from bench.plot import Panel, Point, draw, save

POINTS = [
    Point(at=at, least=median - 2, median=median, most=median + 3)
    for at, median in [(1, 10.0), (1_000, 40.0), (1_000_000, 150.0)]
]


@pytest.fixture
def figure():
    panels = [
        Panel(grows="flows", fixed="10 nodes", lines={"a": POINTS, "b": POINTS[:2]}),
        Panel(grows="nodes", fixed="7 flows", lines={"b": POINTS[:2]}),
    ]
    return draw("Cost", "a machine", panels)


def test_each_line_has_its_medians_and_its_band(figure):
    first, _ = figure.axes

    assert [1, 1_000, 1_000_000] == list(first.lines[0].get_xdata())
    assert [10.0, 40.0, 150.0] == list(first.lines[0].get_ydata())
    box = first.collections[0].get_datalim(first.transData)
    assert (8.0, 153.0) == (box.y0, box.y1)


def test_axes_say_what_they_are(figure):
    first, second = figure.axes

    assert ["number of flows", "number of nodes"] == [a.get_xlabel() for a in figure.axes]
    assert ["log", "log"] == [a.get_xscale() for a in figure.axes]
    assert "ns per packet" in first.get_ylabel()
    assert ["flows (10 nodes)", "nodes (7 flows)"] == [a.get_title() for a in figure.axes]
    assert first.get_ylim() == second.get_ylim()
    assert 0 == first.get_ylim()[0]


def test_a_name_has_one_look_and_stands_once_in_the_legend(figure):
    first, second = figure.axes

    legend = first.get_legend()
    assert ["a", "b"] == [text.get_text() for text in legend.get_texts()]
    assert first.lines[1].get_color() == second.lines[0].get_color()
    assert first.lines[0].get_color() != first.lines[1].get_color()


def test_it_is_saved_as_png_in_a_new_folder(figure, tmp_path):
    path = tmp_path / "new" / "cost.png"

    save(figure, path)

    assert path.read_bytes().startswith(b"\x89PNG\r\n")

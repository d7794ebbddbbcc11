# SPDX-License-Identifier: Apache-2.0
"""Pictures of results are SVG that says what was measured."""

from xml.etree import ElementTree

from bench.plot import Panel, draw

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [(1, 10.0), (1_000, 40.0), (1_000_000, 150.0)]


def drawn():
    panels = [
        Panel(title="flows", lines={"a & b": POINTS, "c": POINTS[:2]}),
        Panel(title="nodes", lines={"c, 7 flows": POINTS[:2]}),
    ]
    return ElementTree.fromstring(draw("Cost", panels))


def points(line):
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_each_line_has_its_points_and_its_name():
    picture = drawn()

    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert [3, 2, 2] == [len(points(line)) for line in picture.iter(f"{SVG}polyline")]
    assert {"Cost", "flows", "nodes", "a & b", "c", "c, 7 flows", "1M"} <= set(texts)


def test_more_lies_higher_and_powers_of_ten_lie_at_equal_distances():
    (first, *_) = (points(line) for line in drawn().iter(f"{SVG}polyline"))

    (x1, y1), (x2, y2), (x3, y3) = first
    assert y1 > y2 > y3 > 0
    assert abs((x3 - x2) - (x2 - x1)) < 0.2


def test_all_diagrams_have_one_scale_and_like_lines_one_colour():
    _, second, third = drawn().iter(f"{SVG}polyline")

    assert [y for _, y in points(second)] == [y for _, y in points(third)]
    assert second.get("stroke") == third.get("stroke")

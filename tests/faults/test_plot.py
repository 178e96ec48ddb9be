"""The plot of a soak."""

from xml.etree import ElementTree

from faults.plot import HEIGHT, Panel, plot

SVG = "{http://www.w3.org/2000/svg}"


def test_every_panel_has_its_title_and_a_curve_through_all_moments() -> None:
    drawn = ElementTree.fromstring(
        plot([0.0, 1.0, 2.0], [Panel("memory <MB>", [60, 61, 60]), Panel("files", [0, 0, 0])])
    )

    titles = [text.text for text in drawn.iter(f"{SVG}text") if text.get("font-weight")]
    curves = [line.attrib["points"].split() for line in drawn.iter(f"{SVG}polyline")]
    assert titles == ["memory <MB>", "files"]
    assert [len(points) for points in curves] == [3, 3]
    assert all(0 <= float(point.split(",")[1]) <= HEIGHT for points in curves for point in points)

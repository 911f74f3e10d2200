"""Figures say what they show, clip nothing, and do without colour."""

import io

import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from gislab import plot, run


def example(*, kind="virtual", server="mapserver", recovers=True, fault="power_cut"):
    samples = []
    for probe in ("maps", "sql_write"):
        for n in range(100):
            bad = 3.0 <= n / 10 < 4.5 or (not recovers and n >= 30)
            samples.append((probe, n / 10, 2.0 if bad else 0.01, "failed" if bad else "ok"))
    return run.make(samples, [(3.0, "strike"), (3.1, "struck"), (6.0, "undo"), (8.0, "undone")],
                    settings={"kind": kind, "map_server": server, "fault": fault,
                              "title": "power cut: VIP and primary", "target": "pi1"})


def texts(figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def edge_is_blank(figure) -> bool:
    """Whether the outermost pixels of the picture are all white: nothing reaches over them."""
    pixels = imread(io.BytesIO(figure.png()))[..., :3]
    return all((edge == 1).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


@pytest.mark.parametrize("kind, server, said", [
    ("virtual", "mapserver", "virtual lab (virtual Pis), maps by MapServer"),
    ("pi", "geoserver", "pi lab (real Pis), maps by GeoServer")])
def test_every_figure_says_virtual_or_pi_and_which_map_server(kind, server, said):
    one = example(kind=kind, server=server)
    for figure in (plot.timeline(one), plot.outages([one])):
        assert said in texts(figure) and said in figure.alt + texts(figure)


def test_a_timeline_shows_the_outage_and_draws_the_prediction():
    figure = plot.timeline(example())
    assert "1.6 s out, 15 of 100" in texts(figure)
    assert "predicted at most" in texts(figure)


def test_a_lane_that_did_not_recover_is_called_so_and_drawn_without_a_length():
    one = example(recovers=False)
    assert "not recovered" in texts(plot.timeline(one))
    assert "not recovered" in texts(plot.outages([one]))


def test_no_label_is_clipped():
    runs = [example(), example(recovers=False, fault="haproxy_killed")]
    assert edge_is_blank(plot.outages(runs))
    assert edge_is_blank(plot.timeline(runs[0]))


def test_outcomes_differ_in_shape_and_lanes_in_hatching_so_that_grey_is_enough():
    assert len({marker for _, marker, *_ in plot.STYLES.values()}) == len(plot.STYLES)
    assert len(set(plot.HATCHES)) == len(plot.FILLS) == 5


def test_the_fault_is_a_light_ground_for_every_point():
    def light(colour):
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), to_rgb(colour), strict=True))
    assert all(light(plot.FAULT) - light(colour) > 0.4 for colour, *_ in plot.STYLES.values())


def test_a_notebook_is_given_a_png_and_a_text_for_those_who_cannot_see_it():
    data, metadata = plot.outages([example()])._repr_mimebundle_()
    assert data["image/png"].startswith("iVBOR")
    assert "power cut" in metadata["image/png"]["alt"]


def test_a_run_without_a_fault_is_drawn_too():
    calm = run.make([("maps", 0.1, 0.01, "ok")], settings={"kind": "virtual"})
    assert "no fault" in texts(plot.timeline(calm)) and plot.outages([calm]).png()

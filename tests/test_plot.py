"""Figures say what they show, clip nothing, and do without colour."""

import dataclasses
import io

import invented
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from gislab import plot, predict, run


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


def test_a_timeline_shows_who_held_what_beside_the_questions_if_anybody_watched():
    watched, blind = plot.timeline(invented.one()), plot.timeline(invented.one(seen=False))
    assert len(watched.axes) == len(blind.axes) + 1 == 5
    for said in ("VIP", "primary", "map servers up", "postgis2", "Swarm's leader"):
        assert said in texts(watched.axes[-1])
    assert "primary: postgis1, then postgis2" in watched.alt
    strip = watched.axes[-1]
    labels = [label.get_text() for label in strip.get_yticklabels()]
    begins = [(labels[round(bar.get_y() + 0.4)], round(bar.get_x(), 2)) for bar in strip.patches
              if 0 <= bar.get_y() + 0.4 < 5 and bar.get_height() == pytest.approx(0.8)]
    strike = invented.one().at("strike")
    assert ("VIP", round(strike + 0.7, 2)) in begins
    assert ("primary", round(strike + 1.7, 2)) in begins
    assert edge_is_blank(watched)


def test_two_that_hold_the_vip_at_a_time_are_drawn_above_each_other_and_told_so():
    system = [(0.0, "pi1", "vip", "", "here"), (4.0, "pi3", "vip", "", "here"),
              (7.0, "pi1", "vip", "", "away")]
    both = plot.timeline(dataclasses.replace(example(), system=run.make(
        [], settings={}, system=system).system))
    bars = [bar for bar in both.axes[-1].patches if bar.get_height() == pytest.approx(0.4)]
    assert [(bar.get_x(), round(bar.get_y(), 2)) for bar in bars] == [(0, -0.4), (4, 0)]
    names = [text for text in both.axes[-1].texts if text.get_text() in ("pi1", "pi3")]
    assert len({text.get_position()[1] for text in names}) == len(names) == 2
    assert "VIP: pi1, at the same time pi3" in both.alt


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


def many():
    return [*invented.series(7), *invented.series(3, "ring_cut", seed=5),
            invented.one("ring_cut", ends=False)]


MANY = [plot.ecdf, plot.breakdown, plot.against]


@pytest.mark.parametrize("draw", MANY)
def test_a_figure_of_many_trials_says_where_how_many_and_in_which_unit(draw):
    figure = draw(many())
    said = texts(figure)
    assert "virtual lab (virtual Pis), maps by MapServer" in said
    assert "power cut: VIP and primary, 7 trials" in said
    assert "network cut: a ring, 4 trials" in said
    assert "seconds" in said and "SQL write (Pgpool)" in said
    assert all(name in figure.alt for name in ("power cut", "a ring", "maps (WMS)"))


@pytest.mark.parametrize("draw", MANY)
def test_no_label_of_a_figure_of_many_trials_is_clipped(draw):
    assert edge_is_blank(draw(many()))


@pytest.mark.parametrize("draw", MANY)
def test_one_calm_run_is_drawn_too(draw):
    calm = [invented.one("switchover", vip=None, lock=None)]
    assert draw(calm).png() and "1 trial" in texts(draw(calm))


@pytest.mark.parametrize("draw", MANY)
def test_a_figure_in_shades_of_grey_says_the_same(draw):
    """Lanes differ in dash and marker, phases in hatching: no two are told by colour alone."""
    looks = {"ecdf": [(line.get_linestyle(), line.get_marker())
                      for line in plot.ecdf(many()).legends[0].get_lines()],
             "breakdown": [(patch.get_hatch(), sum(patch.get_facecolor()[:3]) == 3)
                           for patch in plot.breakdown(many()).legends[0].get_patches()],
             "against": [(line.get_marker(), line.get_markerfacecolor())
                         for line in plot.against(many()).legends[0].get_lines()
                         if line.get_marker() != "None"]}[draw.__name__]
    assert len(looks) >= 3 and len(set(looks)) == len(looks)


def test_the_line_of_a_lane_that_did_not_always_recover_ends_below_all():
    panel = plot.ecdf(many()).axes[1]
    heights = [max(line.get_ydata()) for line in panel.get_lines()]
    assert sorted(np.round(heights, 2)) == [0.75, 0.75, 0.75, 1.0]


def test_a_saved_series_is_drawn_beside_a_new_one():
    figure = plot.ecdf(invented.series(6), invented.series(8, seed=2))
    assert "before: 8 trials" in texts(figure)
    assert len(figure.axes[0].get_lines()) == 8


def test_the_parts_of_an_outage_are_drawn_one_behind_the_other():
    figure = plot.breakdown([invented.one(vip=0.7, lock=1.4, serve=0.9)])
    bars = [bar.patches[0] for bar in figure.axes[0].containers]
    detect, decide, serve = bars[-3:]  # of the last lane
    assert detect.get_x() == 0 and detect.get_width() == pytest.approx(1.4, abs=0.01)
    assert decide.get_x() == pytest.approx(detect.get_width())
    assert serve.get_x() == pytest.approx(detect.get_width() + decide.get_width())
    assert "primary to postgis2" in texts(figure) and "VIP to pi2" in texts(figure)


def test_an_outage_that_nobody_watched_is_drawn_in_one_piece():
    figure = plot.breakdown([invented.one(seen=False)])
    assert len(figure.axes[0].containers) == 4 and "not told apart" in texts(figure)


def test_what_was_measured_is_drawn_over_what_was_predicted_and_counted():
    figure = plot.against([invented.one(vip=0.45, lock=None, fault="haproxy_killed", seed=i)
                           for i in range(3)])
    assert texts(figure).count("3 of 3 inside") == 4
    assert "no theory" in texts(plot.against([invented.one("unheard of")]))


def marked(figure) -> list[float]:
    """Return where the marks of what is expected are, along the axis of seconds."""
    return [line.get_xdata()[0] for axis in figure.axes for line in axis.get_lines()
            if line.get_marker() == "d"]


def test_every_prediction_has_a_mark_at_what_is_expected_and_the_key_says_so():
    one = invented.one()
    expected = {p: predict.of(one, p).expected for p in one.probes}
    for figure in (plot.against([one]), plot.outages([one])):
        assert marked(figure) == pytest.approx(list(expected.values()))
        assert "predicted, expected" in texts(figure) and edge_is_blank(figure)
        assert "expected 3.0 s" in figure.alt
    figure = plot.timeline(one)
    assert marked(figure) == pytest.approx([one.at("strike") + e for e in expected.values()])
    assert "expected" in texts(figure).splitlines()


def test_where_nothing_or_no_end_is_predicted_no_mark_is_drawn():
    calm = [invented.one(fault) for fault in ("map_server_killed", "primary_cut_off", "link_cut")]
    for figure in (plot.against(calm), plot.outages(calm), plot.timeline(calm[0])):
        assert marked(figure) == []


def test_the_figures_of_a_series_are_written_with_a_text_in_each(tmp_path):
    written = plot.write(invented.series(2), tmp_path / "figures")
    assert [path.name for path in written] == ["ecdf.png", "breakdown.png", "predicted.png",
                                               "timeline.png"]
    for path in written:
        assert b"virtual lab" in path.read_bytes(), "the text for those who cannot see it"

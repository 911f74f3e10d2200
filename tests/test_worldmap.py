"""Where lost writes would have been: drawn if there are any, said if there are none."""

import dataclasses
import io

import invented
import pytest
from matplotlib.image import imread

from gislab import history, run, worldmap

WRITES = [("sql_write", i / 10, 0.01, "ok", "", i) for i in range(40)]
WHERE = {"kind": "virtual", "map_server": "mapserver"}


def held(*servers):
    """A run of 40 acknowledged writes, and what each server held of them: row -> times."""
    return run.make(WRITES, settings=WHERE, rows=history.reads(
        {f"server {n}": rows for n, rows in enumerate(servers)}))


ALL = dict.fromkeys(range(40), 1)
PLANTED = held({n: 1 for n in range(6, 40)} | {7: 2, 99: 1}, {n: 1 for n in range(3, 40)})


def drawn(figure):
    """Return the points of each kind."""
    return {c.get_label(): c.get_offsets().tolist() for c in figure.axes[0].collections
            if ":" in str(c.get_label())}


def words(figure):
    return " ".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text"))
                    ).replace("\n", " ")


def test_every_planted_loss_is_at_its_point_and_named_by_its_kind():
    points = drawn(worldmap.lost(PLANTED))
    assert points == {
        "lost: 3": [list(history.place(n)) for n in (0, 1, 2)],
        "on one server only: 3": [list(history.place(n)) for n in (3, 4, 5)],
        "doubled: 1": [list(history.place(7))], "unexpected: 1": [list(history.place(99))]}


def test_where_nothing_was_lost_the_map_is_empty_and_says_so():
    figure = worldmap.lost([held(ALL, ALL), held(ALL, ALL)])
    assert drawn(figure) == {}
    assert figure.axes[0].texts[0].get_text() == "nothing is lost, doubled or unexpected"
    assert "80 acknowledged writes of 2 runs, compared with what 2 servers held" in words(figure)


@pytest.mark.parametrize("figure", [worldmap.lost(PLANTED), worldmap.lost(held(ALL))])
def test_the_map_has_a_caption_and_a_text_for_those_who_cannot_see_it_and_is_whole(figure):
    assert "40 acknowledged writes of 1 run" in words(figure)
    assert "virtual lab (virtual Pis), maps by MapServer" in words(figure)
    for said in ("Map of the world: ", "40 acknowledged writes of 1 run", "virtual lab"):
        assert said in figure.alt
    assert "\n" not in figure.alt
    assert ("3 lost" if drawn(figure) else "nothing is lost") in figure.alt
    pixels = imread(io.BytesIO(figure.png()))[..., :3]
    assert all((edge == 1).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def test_of_writes_that_nobody_could_read_it_is_not_said_that_none_is_lost():
    unread = dataclasses.replace(held(ALL), rows=run.rows([]))
    assert worldmap.lost(unread).alt.startswith("Map of the world: not known")
    both = worldmap.lost([held(ALL), unread])
    assert "as far as is known" in both.alt and "Of 1 run more nobody read" in words(both)


def test_without_a_run_there_is_no_map():
    with pytest.raises(ValueError, match="no run to look at"):
        worldmap.lost([])


def test_ours_is_empty_where_that_of_2016_is_not():
    runs = invented.two_setups(trials=1)
    ours = worldmap.lost([r for r in runs if not r.settings.get("setup")])
    theirs = worldmap.lost([r for r in runs if r.settings.get("setup")], "2016")
    assert drawn(ours) == {} and "nothing is lost" in ours.alt
    (kind, points), = drawn(theirs).items()
    assert kind == f"on one server only: {len(points)}" and len(points) > 20
    assert "the set-up of 2016" in words(theirs)

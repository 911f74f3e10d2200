"""The picture of the standing lab."""

import pandas as pd

from gislab import chart

TASKS = pd.DataFrame(
    [("consul", "pi1", "Running"), ("consul", "pi2", "Running"), ("postgis1", "pi1", "Running"),
     ("mapserver", "pi2", "Running"), ("mapserver", "pi2", "Running"),
     ("mapserver", "pi1", "Starting")], columns=["service", "node", "state"])


def test_each_running_task_is_a_box_on_its_pi_and_in_the_text_for_those_who_cannot_see_it():
    picture = chart.placement(TASKS)
    texts = [t.get_text() for t in picture.axes[0].texts]
    assert sorted(texts) == ["consul", "consul", "mapserver", "mapserver", "postgis1"]
    assert picture.alt == ("pi1 runs consul, postgis1; pi2 runs consul, mapserver, mapserver")
    assert picture.png().startswith(b"\x89PNG")


def test_boxes_of_one_pi_do_not_overlap():
    boxes = [p.get_bbox() for p in chart.placement(TASKS).axes[0].patches]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1:]:
            apart = (one.x1 <= other.x0 or other.x1 <= one.x0
                     or one.y1 <= other.y0 or other.y1 <= one.y0)
            assert apart, (one, other)

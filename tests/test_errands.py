"""What a map server does to its tiles when Consul's line says so; no GeoServer is needed."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess

import pytest

from gislab import catalog, images, settings
from gislab.catalog import bundle
from gislab.wait import NotYet, until

FOLDER = images.FOLDER / "geoserver"


@pytest.fixture
def run(tmp_path):
    """Run errand.sh with a stand-in for GeoServer, which answers from files in turn."""
    (tmp_path / "bin").mkdir()
    admin = tmp_path / "bin" / "admin.sh"
    admin.write_text(f"""#!/bin/bash
printf '%s\\n' "$*" >> {tmp_path}/asked
if [[ "$*" == *http_code* ]]; then
    cat {tmp_path}/status; [[ "$(<{tmp_path}/status)" == 200 ]]
else
    head -n 1 {tmp_path}/says; sed -i 1d {tmp_path}/says
fi
""")
    admin.chmod(0o755)

    def go(errand: str, status: str = "200", *says: str):
        (tmp_path / "status").write_text(status)
        (tmp_path / "says").write_text("".join(f"{line}\n" for line in says))
        done = subprocess.run(
            ["bash", FOLDER / "errand.sh", errand], capture_output=True, text=True,
            env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
        return done, (tmp_path / "asked").read_text()
    return go


def test_forgetting_names_the_layer_with_its_workspace(run):
    done, asked = run("forget/gis:places")
    assert done.returncode == 0
    assert "<truncateLayer><layerName>gis:places</layerName></truncateLayer>" in asked
    assert "/geoserver/gwc/rest/masstruncate" in asked


@pytest.mark.parametrize("status, code", [("400", 0), ("500", 1), ("000", 1), ("401", 1)])
def test_a_layer_that_has_no_tiles_is_forgotten_already_and_anything_else_is_told(
        run, status, code):
    """The agent tries again until it is done, and says why it is not."""
    done, _ = run("forget/gis:places", status)
    assert done.returncode == code and (status in done.stderr) is (code == 1)


def test_seeding_says_every_second_how_far_it_is(run):
    done, asked = run("seed/gis:places/2/5", "200", '{"long-array-array":[[12,340,7,1,1]]}',
                      '{"long-array-array":[]}')
    assert done.returncode == 0 and done.stdout == "12 340\n"
    for word in ("<name>gis:places</name>", "<zoomStart>2</zoomStart>", "<zoomStop>5</zoomStop>",
                 "<type>seed</type>", "/gwc/rest/seed/gis:places.xml"):
        assert word in asked


def test_seeding_that_is_refused_is_told(run):
    done, _ = run("seed/gis:places/2/5", "500")
    assert done.returncode == 1 and "GeoWebCache answers 500" in done.stderr


def test_an_unknown_errand_is_named():
    done = subprocess.run(["bash", FOLDER / "errand.sh", "dance/gis:places"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "no errand dance" in done.stderr


@pytest.mark.parametrize("script", sorted(p.name for p in FOLDER.glob("*.sh")))
def test_every_script_is_bash(script):
    done = subprocess.run(["bash", "-n", FOLDER / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Consul as the agent's curl sees it: files in a folder. A question that is told an index it knows
# already lasts a moment, as a blocking one does.
CURL = """#!/bin/bash
while (($#)); do
    case $1 in
        -o) out=$2; shift ;;
        --data-binary) data=${2#@}; shift ;;
        http*) url=$1 ;;
    esac
    shift
done
index=$(<$HERE/index)
[[ "$url" != *"index=$index" ]] || read -rt 0.2 <> <(:)
case $url in
    */session/create) echo '{"ID":"abc"}' ;;
    */kv/gislab/maps/current*) cat $HERE/line ;;
    */kv/gislab/maps/parts/*) cat $HERE/bundle.gz ;;
    */kv/gislab/maps/reports/*) cp "$data" $HERE/report.new; mv $HERE/report.new $HERE/report
        echo true ;;
    *) echo true ;;
esac > $out
echo "200 $(<$HERE/index)"
"""
ERRAND = """#!/bin/bash
echo "$1" >> $HERE/done
[[ "$1" != seed/* ]] || for i in 1 2 3; do echo "$i 3"; read -rt 0.5 <> <(:); done
[[ ! -e $HERE/broken ]] || { echo "no GeoServer" >&2; exit 1; }
"""


class Agent:
    """agent.sh as it is, in a folder of its own."""

    def __init__(self, here, digest):
        self.here, self.number = here, 1
        self.version = f"7 {digest} 1"

    def say(self, *errands: str) -> None:
        """Change the line that Consul holds."""
        (self.here / "line").write_text(" ".join([self.version, *errands]) + "\n")
        self.number += 1
        (self.here / "index").write_text(f"{self.number}\n")

    def reports(self, **wanted) -> dict:
        """Wait until it reports this."""
        def ask():
            try:
                found = json.loads((self.here / "report").read_text())
            except (FileNotFoundError, ValueError):
                raise NotYet("no report") from None
            if any(found[key] != value for key, value in wanted.items()):
                raise NotYet(str(found))
            return found
        return until(ask, what=f"a report of {wanted}", timeout=15, every=0.02)

    @property
    def done(self) -> list[str]:
        path = self.here / "done"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def agent(tmp_path):
    made = bundle.render(catalog.default(), settings.make({"map_server": "geoserver"}))
    (tmp_path / "bundle.gz").write_bytes(gzip.compress(made))
    folder = tmp_path / "bin"
    folder.mkdir()
    script = (FOLDER / "agent.sh").read_text().replace("/run/gislab", f"{tmp_path}/run")
    for name, text in (("agent.sh", script), ("curl", CURL), ("errand.sh", ERRAND),
                       ("hold.sh", "#!/bin/bash\nexit 0\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (tmp_path / "token").write_text("x")
    made = Agent(tmp_path, bundle.digest(made))
    made.say()
    with subprocess.Popen(
            [folder / "agent.sh", "geoserver"], start_new_session=True,
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HERE": str(tmp_path),
                 "NODES": "pi1=192.0.2.1", "NODE_NAME": "pi1", "HOSTNAME": "a1",
                 "MAP_TOKEN_FILE": str(tmp_path / "token")}) as process:
        try:
            yield made
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_each_number_of_an_errand_is_done_once_and_reported(agent):
    """What is asked anew is done anew; what stays in the line is not."""
    agent.reports(state="holds", version=7, done="")
    agent.say("forget/gis:places=1")
    agent.reports(done="forget/gis:places=1")
    agent.say("forget/gis:places=1", "forget/gis:points=4")
    agent.say("forget/gis:places=2", "forget/gis:points=4")
    until(lambda: _has(agent, "forget/gis:places=2 forget/gis:points=4"), what="both", timeout=15)
    assert agent.done == ["forget/gis:places", "forget/gis:places", "forget/gis:points"] or \
        agent.done == ["forget/gis:places", "forget/gis:points", "forget/gis:places"]


def test_seeding_goes_on_beside_everything_else_and_tells_how_far_it_is(agent):
    """Forgetting does not wait for minutes of drawing."""
    agent.reports(state="holds")
    agent.say("seed/gis:places/0/1=5")
    agent.reports(doing="seed/gis:places/0/1=5 1 3")
    agent.say("seed/gis:places/0/1=5", "forget/gis:points=6")
    assert agent.reports(done="forget/gis:points=6")["doing"].startswith("seed/gis:places/0/1=5")
    until(lambda: _has(agent, "seed/gis:places/0/1=5"), what="the end of it", timeout=15)
    assert agent.reports(doing="") and agent.done.count("seed/gis:places/0/1") == 1


def test_an_errand_that_fails_is_tried_until_it_is_done(agent):
    """A GeoServer that reloads at this moment must not keep its old tiles."""
    agent.reports(state="holds")
    (agent.here / "broken").touch()
    agent.say("forget/gis:places=1")
    until(lambda: _tried(agent, 2), what="a second try", timeout=15)
    assert agent.reports(state="holds")["done"] == ""
    (agent.here / "broken").unlink()
    agent.reports(done="forget/gis:places=1")


def _has(agent, words: str) -> None:
    said = agent.reports(state="holds")["done"]
    if not set(words.split()) <= set(said.split()):
        raise NotYet(said)


def _tried(agent, count: int) -> None:
    if len(agent.done) < count:
        raise NotYet(str(agent.done))

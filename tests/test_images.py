"""Images: each tag tells what is in it, and each image is for the machine it was asked for."""

import json
import shutil
import tarfile
import tempfile

import pytest

from gislab import engine, images, settings
from gislab.images import layers
from gislab.shell import Local


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of images/ that a test may change."""
    copy = shutil.copytree(images.FOLDER, tmp_path / "images")
    monkeypatch.setattr(images, "FOLDER", copy)
    return copy


def test_a_tag_stays_while_nothing_changes_and_changes_with_any_file(paper, folder):
    before = images.tag(paper, "haproxy")
    assert images.tag(paper, "haproxy") == before
    script = folder / "haproxy" / "entrypoint.sh"
    script.write_text(script.read_text() + "# more\n")
    after = images.tag(paper, "haproxy")
    (folder / "haproxy" / "new.txt").write_text("")
    assert len({before, after, images.tag(paper, "haproxy")}) == 3
    assert images.tag(paper, "consul") == images.tag(paper, "consul")


def test_a_file_that_moves_changes_the_tag(paper, folder):
    before = images.tag(paper, "haproxy")
    (folder / "haproxy" / "entrypoint.sh").rename(folder / "haproxy" / "start.sh")
    assert images.tag(paper, "haproxy") != before


def test_a_tag_names_the_architecture():
    arm = settings.make({"platform": "linux/arm64", "map_server": "mapserver"})
    assert images.tag(arm, "consul").startswith("gislab/consul:arm64-")
    assert images.tag(arm, "consul", "amd64").startswith("gislab/consul:amd64-")
    assert f":{engine.native()}-" in images.tag(arm, "registry"), "it runs on the laptop"


def test_another_geoserver_is_another_image(paper, tmp_path, monkeypatch):
    none = images.tag(paper, "geoserver")
    (tmp_path / "g.war").write_bytes(b"one")
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path / "g.war"))
    assert images.tag(paper, "geoserver") != none


def test_an_image_is_at_hand_when_the_engine_has_it_and_it_was_proved(paper, monkeypatch):
    held = {images.tag(paper, name) for name in images.names(paper)}

    class Images:
        def get(self, tag):
            if tag not in held:
                raise images.ImageNotFound(tag)
            return type("Image", (), {"attrs": {"Size": 7}})
    monkeypatch.setattr(engine, "client", lambda: type("Client", (), {"images": Images()}))
    assert images.lacking(paper) == images.names(paper), "none was ever proved here"
    for name in images.names(paper):
        note = images._note(name, engine.native())
        note.parent.mkdir(parents=True, exist_ok=True)
        built = images.Built(name, paper.platform, images.tag(paper, name), 1, 1.0, False, "", "")
        note.write_text(json.dumps(vars(built)))
    assert images.lacking(paper) == []
    table = images.build(paper, ["pgpool"], say=lambda text: None)  # from nothing else than these
    assert table.cached.tolist() == [True] and table["size MB"].tolist() == [7e-6]
    held.remove(images.tag(paper, "pgpool"))
    images._note("consul", engine.native()).write_text(json.dumps(vars(built)))
    assert sorted(images.lacking(paper)) == ["consul", "pgpool"]


def test_what_is_needed_first_is_built_first():
    names = list(images.plan()["images"])
    assert names[:2] == ["pi", "registry"], "without them there is nothing to pull from or to"
    assert names[-1] == "geoserver", "the slowest comes last"


def test_every_image_of_the_plan_has_its_folder_and_every_folder_is_in_the_plan():
    folders = {p.name for p in images.FOLDER.iterdir() if p.is_dir()}
    assert set(images.plan()["images"]) == folders
    for facts in images.plan()["images"].values():
        assert facts["where"] in ("pi", "laptop") and facts["proof"]


@pytest.mark.parametrize("name", images.plan()["images"])
def test_every_image_starts_from_the_base_and_is_made_for_any_architecture(name):
    text = (images.FOLDER / name / "Dockerfile").read_text()
    code = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert code[0] == "ARG BASE=" + images.plan()["base"]["image"]
    stages = [line.split()[1] for line in code if line.startswith("FROM ")]
    assert set(stages) == {"${BASE}"}
    for foreign in ("RUN --mount", "--chmod", "amd64-", "x86_64-linux", "<<"):
        assert foreign not in "\n".join(code), "classic builders and other machines need to build"


def test_a_lab_needs_one_map_server_and_real_pis_need_no_virtual_ones(paper):
    names = images.names(paper)
    assert "mapserver" in names and "geoserver" not in names and "pi" in names
    assert set(images.names(paper, where="pi")).isdisjoint({"pi", "registry"})
    real = settings.make({"kind": "pi", "ssh_key": "k", "map_server": "geoserver", "machines": [
        {"name": f"pi{i}", "address": f"172.30.16.1{i}"} for i in (1, 2, 3)]})
    assert "pi" not in images.names(real) and "mapserver" not in images.names(real)


def test_an_unknown_image_is_answered_with_those_that_there_are(paper):
    with pytest.raises(images.ImageError, match="no image tomcat; there are pi, registry"):
        images.build(paper, ["haproxy", "tomcat"])


@pytest.mark.live
def test_a_broken_dockerfile_is_told_with_its_last_lines_and_its_log(paper, folder, the_engine):
    (folder / "haproxy" / "Dockerfile").write_text(
        "ARG BASE=debian:trixie-slim\nFROM ${BASE}\nRUN echo the shelf is empty && exit 7\n")
    with pytest.raises(images.ImageError, match="(?s)gislab/haproxy:.* was not built") as caught:
        images.build(paper, ["haproxy"], say=lambda text: None)
    log = settings.root() / "logs" / f"build-haproxy-{engine.native()}.log"
    assert str(log) in str(caught.value) and "the shelf is empty" in log.read_text()
    assert "the shelf is empty" in str(caught.value)
    left = [c for c in the_engine.containers.list(all=True) if "shelf" in str(c.attrs["Config"])]
    assert left == [], "the container of the step that failed"


@pytest.mark.live
def test_an_image_that_is_built_is_not_built_again(image, the_engine):
    """`image` builds what is missing."""
    standing = settings.make({})
    image("consul")
    again = images.build(standing, ["consul"], say=lambda text: None)
    assert again.cached.tolist() == [True]
    table = images.table(standing)
    row = table[(table.image == "consul") & (table.tag == again.tag[0])].iloc[0]
    assert row["size MB"] > 10 and row.seconds > 0 and "Consul" in row.proof


@pytest.mark.arm
def test_keepalived_haproxy_and_consul_are_built_for_arm_and_run(the_engine, request):
    """`uname -m` says aarch64, and each program prints its version."""
    standing = settings.make({"map_server": "mapserver"})
    try:
        engine.emulate("arm64")
    except engine.EngineError as error:
        if request.config.getoption("--need-live"):
            raise
        pytest.skip(str(error))
    names = ["keepalived", "haproxy", "consul"]
    table = images.build(standing, names, platform="linux/arm64").set_index("image")
    for name, says in zip(names, ("Keepalived v", "HAProxy version", "Consul v"), strict=True):
        row = table.loc[name]
        assert row.platform == "linux/arm64"
        assert row.proof.startswith("aarch64: ") and says in row.proof
        assert the_engine.images.get(row.tag).attrs["Architecture"] == "arm64"
        machine = Local().run(["docker", "run", "--rm", "--network", "none", "--entrypoint",
                               "uname", row.tag, "-m"], timeout=60)
        assert machine.out.strip() == "aarch64"


@pytest.mark.parametrize("here, way", [("amd64", "mixed"), ("arm64", "native"),
                                       ("riscv64", "emulated")])
def test_only_a_pc_helps_an_arm_build_with_its_own_programs(here, way, monkeypatch):
    """On an ARM laptop or a Pi the build is a plain one; anywhere it can be asked for."""
    monkeypatch.setattr(engine, "native", lambda: here)
    assert images._way("arm64", plain=False) == way
    assert images._way("arm64", plain=True) == ("native" if here == "arm64" else "emulated")
    assert images._way(here, plain=False) == "native"


def test_costs_are_told_side_by_side_with_their_ratio(paper, monkeypatch):
    """A row is an image; what was built for one machine only has no ratio."""
    built = [images.Built("haproxy", "linux/amd64", "t", 80_000_000, 5.0, False, "p", "native"),
             images.Built("haproxy", "linux/arm64", "t", 100_000_000, 9.0, False, "p", "mixed"),
             images.Built("haproxy", "linux/arm64", "t", 100_000_000, 150.0, False, "p",
                          "emulated"),
             images.Built("consul", "linux/amd64", "t", 150_000_000, 16.0, False, "p",
                          "native")]
    monkeypatch.setattr(images, "table", lambda lab: images._frame(built))
    monkeypatch.setattr(engine, "native", lambda: "amd64")
    costs = images.costs(paper).set_index("image")
    assert list(costs.index) == ["consul", "haproxy"], "in the order of building"
    row = costs.loc["haproxy"]
    assert (row["MB amd64"], row["MB arm64"], row["s arm64"]) == (80, 100, 9)
    assert (row["arm64 / amd64"], row["arm64, emulated / amd64"]) == (1.8, 30)
    assert costs.loc["consul"].isna()["arm64 / amd64"]


@pytest.mark.arm
def test_an_arm_image_that_this_pc_helped_to_build_holds_nothing_of_the_pc(the_engine):
    """No file for another machine in the whole image, and no layer but the base's and its own."""
    standing = settings.make({"map_server": "mapserver"})
    built = images.build(standing, ["haproxy"], platform="linux/arm64").iloc[0]
    if built.way != "mixed":
        pytest.skip(f"this machine builds for ARM another way: {built.way}")
    container = the_engine.containers.create(built.tag)
    try:
        with tempfile.TemporaryFile() as whole:
            for chunk in container.export():
                whole.write(chunk)
            whole.seek(0)
            assert layers.foreign(whole, "arm64") == []
            whole.seek(0)
            assert len(layers.foreign(whole, "amd64")) > 100, "ARM's own are seen"
            whole.seek(0)
            with tarfile.open(fileobj=whole) as tar:
                names = tar.getnames()
    finally:
        container.remove()
    left = ("x86_64-linux-gnu", "lib64", "apt.conf.d/00architecture", "local/bin/py3compile")
    assert [name for name in names if any(part in name for part in left)] == []
    parent = the_engine.images.get(images.base("arm64")).attrs["RootFS"]["Layers"]
    own = the_engine.images.get(built.tag).attrs["RootFS"]["Layers"]
    assert own[:len(parent)] == parent and len(own) > len(parent)

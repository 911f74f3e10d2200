"""GeoServer's archive is taken in any of its forms, and nothing else is."""

import hashlib
import io
import shutil
import subprocess
import urllib.error
import zipfile

import pytest

from gislab import images, settings, wars


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GISLAB_GEOSERVER_WAR", raising=False)
    monkeypatch.delenv("GISLAB_GEOSERVER_VERSION", raising=False)
    return tmp_path / "home"


@pytest.fixture
def download(monkeypatch):
    """A function that decides what every download gives: bytes, or an error."""
    def give(answer):
        def urlopen(url, timeout):
            if isinstance(answer, Exception):
                raise answer
            return io.BytesIO(answer)
        monkeypatch.setattr(wars.urllib.request, "urlopen", urlopen)
    give(urllib.error.URLError("no network"))
    return give


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, data in members.items():
            out.writestr(name, data)
    return buffer.getvalue()


WEBAPP = {"WEB-INF/web.xml": b"<web-app/>", "index.html": b"GeoServer"}
FORMS = {
    "geoserver.war": zipped(WEBAPP),
    "geoserver-war.zip": zipped({"GPL.html": b"", "geoserver.war": zipped(WEBAPP)}),
    "geoserver-bin.zip": zipped({"start.jar": b"", "webapps/geoserver/": b"",
                                 **{f"webapps/geoserver/{n}": d for n, d in WEBAPP.items()}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_the_archive_becomes_the_same_war(form, tmp_path, monkeypatch):
    (tmp_path / form).write_bytes(FORMS[form])
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path / form))
    context = tmp_path / "context"
    context.mkdir()
    wars.place(context)
    with zipfile.ZipFile(context / "geoserver.war") as war:
        assert {n: war.read(n) for n in war.namelist()} == WEBAPP


@pytest.mark.parametrize("data, why", [(b"<html>404</html>", "is not a zip or war file"),
                                       (zipped({"readme.txt": b""}), "holds no GeoServer")])
def test_an_archive_that_is_something_else_is_refused(data, why, tmp_path, monkeypatch):
    (tmp_path / "x.war").write_bytes(data)
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path / "x.war"))
    with pytest.raises(wars.WarError, match=f"x.war {why}"):
        wars.place(tmp_path)


def test_a_path_that_is_no_file_is_an_error_and_never_a_silent_mapserver(tmp_path, monkeypatch):
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path))
    for ask in (wars.at_hand, wars.identity, lambda: wars.decide(settings.make({}))):
        with pytest.raises(wars.WarError, match="is no file; give the path of a geoserver.war"):
            ask()


def test_a_wrong_checksum_is_told_and_the_file_is_gone(download, home):
    download(b"not GeoServer")
    with pytest.raises(wars.WarError, match="Run the command again") as caught:
        wars.get(say=lambda text: None)
    assert hashlib.sha256(b"not GeoServer").hexdigest() in str(caught.value)
    assert wars.RELEASES[0].sha256 in str(caught.value)
    assert list((home / "wars").iterdir()) == [] and wars.at_hand() is None


def test_a_download_with_the_right_checksum_is_kept_and_made_once(download, monkeypatch):
    data = FORMS["geoserver-bin.zip"]
    release = wars.Release("9.9.9", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(wars, "RELEASES", (release,))
    download(data)
    first = wars.get(say=lambda text: None)
    download(AssertionError("asked the network again"))
    assert wars.get() == first and first.read_bytes() == data
    assert first.name == "geoserver-9.9.9-bin.zip"


TWO = tuple(wars.Release(version, hashlib.sha256(version.encode()).hexdigest())
            for version in ("2.99.1", "3.99.1"))


def test_the_release_that_lab_toml_or_the_environment_asks_for_is_downloaded(download,
                                                                             monkeypatch):
    """The environment comes first, and each release is kept beside the other."""
    monkeypatch.setattr(wars, "RELEASES", TWO)
    plain, other = settings.make({}), settings.make({"geoserver": "3.99.1"})
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(b"3.99.1" if "3.99.1" in url else b"2.99.1")
    monkeypatch.setattr(wars.urllib.request, "urlopen", urlopen)
    assert wars.get(other, say=str).name == "geoserver-3.99.1-bin.zip"
    assert asked == ["https://downloads.sourceforge.net/project/geoserver/GeoServer/3.99.1/"
                     "geoserver-3.99.1-bin.zip"]
    assert wars.at_hand(plain) is None
    assert wars.get(plain, say=str) == wars.get(say=str) == wars.at_hand(plain)
    assert wars.at_hand(plain).name == "geoserver-2.99.1-bin.zip"
    assert wars.identity(plain) != wars.identity(other)
    monkeypatch.setenv("GISLAB_GEOSERVER_VERSION", "2.99.1")
    assert wars.at_hand(other) == wars.at_hand(plain)
    monkeypatch.setenv("GISLAB_GEOSERVER_VERSION", "3.99.1")
    assert wars.identity(plain) == wars.identity(other)


def test_a_release_that_nobody_knows_is_an_error_and_never_a_silent_mapserver(download, home,
                                                                              monkeypatch):
    """It is named with those that can be had; a given archive needs no release."""
    for kind in ("auto", "geoserver"):
        lab = settings.make({"map_server": kind, "geoserver": "2.0"})
        with pytest.raises(wars.WarError, match=r"GeoServer 2\.0 is not among .*\(2\.28\.5, "
                                                r"3\.0\.1\)"):
            wars.decide(lab)
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", __file__)
    assert wars.decide(lab) == "geoserver"


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here; in the image there is")
@pytest.mark.parametrize("jar, engine", [("gs-main-2.28.5.jar", "jetty"),
                                         ("gs-main-3.0.1.jar", "tomcat"),
                                         ("gs-main-4.0.jar", ""), ("other-2.0.jar", "")])
def test_each_release_gets_the_servlet_engine_that_it_needs(jar, engine, tmp_path):
    """GeoServer 2 is of Java EE's times, 3 of Jakarta's; what is neither is refused."""
    (tmp_path / "geoserver.war").write_bytes(zipped({
        **WEBAPP, f"WEB-INF/lib/{jar}": b"", "WEB-INF/lib/gs-main-tests.jar": b"",
        "data/demo.xml": b""}))
    script = (images.FOLDER / "geoserver" / "unpack.sh").read_text()
    done = subprocess.run(["bash"], text=True, capture_output=True, timeout=20, input=script
                          .replace("/context/", f"{tmp_path}/").replace("/opt/", f"{tmp_path}/"))
    if not engine:
        assert done.returncode == 1 and "is no GeoServer 2 or 3" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    said = dict(line.split("=") for line in done.stdout.split("\n") if "=" in line)
    assert said["ENGINE"] == f"'{engine}'" and said["VERSION"] == f"'{jar[8:-4]}'"
    assert engine in said["PACKAGES"]
    assert not (tmp_path / "geoserver/webapp/data").exists()


def test_auto_falls_back_to_mapserver_and_says_why(download):
    lab, told = settings.make({}), []
    assert wars.decide(lab, say=told.append) == "mapserver" == lab.serves
    assert "MapServer, since GeoServer" in told[-1] and "no network" in told[-1]


def test_a_download_that_failed_is_not_tried_again_while_the_lab_stands(download, tmp_path,
                                                                        monkeypatch):
    """Else a second `up` would wait for it, or change the map server of a standing lab."""
    lab = settings.make({})
    wars.decide(lab, say=lambda text: None)
    download(AssertionError("asked the network again"))
    assert wars.decide(lab, say=pytest.fail) == "mapserver"
    (tmp_path / "g.war").write_bytes(FORMS["geoserver.war"])
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path / "g.war"))
    assert wars.decide(lab) == "geoserver" == lab.serves, "an archive at hand is taken"


def test_geoserver_that_was_asked_for_and_cannot_be_had_is_an_error(download):
    lab = settings.make({"map_server": "geoserver"})
    with pytest.raises(wars.WarError, match="GISLAB_GEOSERVER_WAR=/path/to/geoserver.war, or "
                                            'map_server = "mapserver"'):
        wars.decide(lab, say=lambda text: None)


def test_auto_takes_geoserver_where_it_is_at_hand(tmp_path, monkeypatch, download):
    (tmp_path / "g.war").write_bytes(FORMS["geoserver.war"])
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path / "g.war"))
    lab = settings.make({})
    assert wars.decide(lab) == "geoserver" == lab.serves


def test_another_archive_is_another_identity(tmp_path, monkeypatch):
    assert wars.identity() == "none"
    seen = set()
    for form, data in FORMS.items():
        (tmp_path / form).write_bytes(data)
        monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(tmp_path / form))
        seen.add(wars.identity())
    assert len(seen) == 3


def test_no_release_with_the_known_injection_is_a_default():
    """GHSA-mqjf-5f49-2fjh."""
    assert all(tuple(map(int, r.version.split("."))) >= (2, 28) for r in wars.RELEASES)

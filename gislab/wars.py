"""GeoServer's web archive: given by path, found in the cache, or downloaded with a checksum."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from .settings import Lab, root

SOURCE = "https://downloads.sourceforge.net/project/geoserver/GeoServer/{version}/{file}"


class WarError(RuntimeError):
    """GeoServer's WAR cannot be had or is not what it should be; the text says what to do."""


@dataclass(frozen=True)
class Release:
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"geoserver-{self.version}-bin.zip"


# The first is the default. Earlier ones have an SQL injection (GHSA-mqjf-5f49-2fjh).
RELEASES = (
    Release("2.28.5", "77cdc75f94c017fd9b8b85273136ebe0056e8436658d610890a24ddb6f3e6620"),
    Release("3.0.1", "b978d100ec5fbfe49040c5a2915878f1bf4e8223fab829e63aa076d570db4915"),
)


def release(lab: Lab | None = None) -> Release:
    """Return the release to be had: $GISLAB_GEOSERVER_VERSION, else lab.toml's, else the first."""
    asked = os.environ.get("GISLAB_GEOSERVER_VERSION") or (lab.geoserver if lab else "")
    for known in RELEASES:
        if known.version == (asked or RELEASES[0].version):
            return known
    raise WarError(f"GeoServer {asked} is not among those whose checksum is known ("
                   + ", ".join(known.version for known in RELEASES) + "); say one of them, or "
                   "give its archive: GISLAB_GEOSERVER_WAR=/path/to/geoserver.war")


def at_hand(lab: Lab | None = None) -> Path | None:
    """Return the archive that is on this machine already, or None; asks no network.

    One that is given by its path is taken whatever release was asked for.
    """
    given = os.environ.get("GISLAB_GEOSERVER_WAR")
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise WarError(f"GISLAB_GEOSERVER_WAR={given} is no file; give the path of a "
                           "geoserver.war, -war.zip or -bin.zip, or unset it")
        return path
    cached = _cache() / release(lab).file
    return cached if cached.exists() else None


def get(lab: Lab | None = None, say=print) -> Path:
    """Return the archive, downloaded if it is not at hand; WarError where it cannot be had."""
    found = at_hand(lab)
    if found:
        return found
    wanted = release(lab)
    target = _cache() / wanted.file
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    url = SOURCE.format(version=wanted.version, file=wanted.file)
    say(f"geoserver: downloading {wanted.file} (123 MB)")
    try:
        with urllib.request.urlopen(url, timeout=15) as answer, part.open("wb") as out:
            shutil.copyfileobj(answer, out, 1 << 20)
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        raise WarError(f"GeoServer {wanted.version} cannot be downloaded ({error}); set "
                       "GISLAB_GEOSERVER_WAR=/path/to/geoserver.war, or "
                       'map_server = "mapserver" in lab.toml') from None
    check(part, wanted.sha256)
    part.rename(target)
    return target


def check(path: Path, sha256: str) -> None:
    """Raise WarError, and remove the file, unless its checksum is `sha256`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise WarError(f"{path.name} has the checksum {found}, not {sha256}; the download was "
                       "broken or is not GeoServer's, and was removed. Run the command again")


def decide(lab: Lab, say=print) -> str:
    """Settle which map server a lab of `map_server = "auto"` runs, and remember it.

    What could not be downloaded once is not tried again until `gislab down`: a second `up` must
    not wait for it, nor change the map server of a lab that stands. An archive that has come to
    hand since is taken.
    """
    note = lab.home / "map_server"
    if lab.map_server != "auto":
        if lab.map_server == "geoserver":
            get(lab, say=say)
        return lab.map_server
    if at_hand(lab) is None and note.exists() and note.read_text().strip() == "mapserver":
        return "mapserver"
    try:
        get(lab, say=say)
        served = "geoserver"
    except WarError as error:
        if os.environ.get("GISLAB_GEOSERVER_WAR"):
            raise
        say(f"map server: MapServer, since {error}")
        served = "mapserver"
    note.write_text(served)
    return served


def identity(lab: Lab | None = None) -> str:
    """Return what tells one archive from another, for the image's tag."""
    path = at_hand(lab)
    return "none" if path is None else _digest(path, path.stat().st_mtime_ns)


def place(context: Path, lab: Lab | None = None, say=print) -> None:
    """Write `geoserver.war` into a build context, from whichever of the three forms is had."""
    source, target = get(lab, say=say), context / "geoserver.war"
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile:
        raise WarError(f"{source} is not a zip or war file; give GISLAB_GEOSERVER_WAR "
                       "another") from None
    with archive:
        members = archive.namelist()
        if "WEB-INF/web.xml" in members:
            shutil.copy(source, target)
            return
        inner = next((m for m in members if PurePosixPath(m).name == "geoserver.war"), None)
        if inner:
            with archive.open(inner) as file, target.open("wb") as out:
                shutil.copyfileobj(file, out, 1 << 20)
            return
        marker = next((m for m in members if m.endswith("geoserver/WEB-INF/web.xml")), None)
        if marker is None:
            raise WarError(f"{source} holds no GeoServer (no WEB-INF/web.xml)")
        prefix = marker.removesuffix("WEB-INF/web.xml")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            for member in members:
                if member.startswith(prefix) and not member.endswith("/"):
                    out.writestr(member.removeprefix(prefix), archive.read(member))


@cache
def _digest(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _cache() -> Path:
    return root() / "wars"

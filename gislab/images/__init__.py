"""Build the lab's images for a platform, and say how large they are and how long it took."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd
from docker.errors import ImageNotFound

from .. import claim, engine, wars
from ..settings import PROJECT, Lab, root
from ..shell import Local
from . import layers

FOLDER = PROJECT / "images"


class ImageError(RuntimeError):
    """An image cannot be built or fails its proof; the text says where to look."""


@dataclass(frozen=True)
class Built:
    """One image: its tag, size in bytes, and the seconds its build took when it was built."""

    image: str
    platform: str
    tag: str
    size: int
    seconds: float
    cached: bool
    proof: str
    way: str  # native; mixed: see layers.with_native; or emulated, every program


@cache
def plan() -> dict:
    """Return images/images.toml: the base, and each image in the order of building."""
    return tomllib.loads((FOLDER / "images.toml").read_text())


def names(lab: Lab, where: str | None = None) -> list[str]:
    """Name the images that this lab needs: one map server, not both."""
    other = "mapserver" if lab.serves == "geoserver" else "geoserver"
    return [n for n, facts in plan()["images"].items()
            if n != other and where in (None, facts["where"])
            and not (n == "pi" and lab.kind == "pi")]


def tag(lab: Lab, name: str, architecture: str | None = None) -> str:
    """Return the tag of an image: it changes when anything that goes into it changes."""
    architecture = architecture or _architecture(lab, name)
    digest = hashlib.sha256(json.dumps([plan()["base"], architecture]).encode())
    for path in sorted((FOLDER / name).rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(FOLDER)).encode() + path.read_bytes())
    if name == "geoserver":
        digest.update(wars.identity(lab).encode())
    return f"gislab/{name}:{architecture}-{digest.hexdigest()[:12]}"


def build(lab: Lab, only: list[str] | None = None, *, platform: str | None = None,
          plain: bool = False, say=print) -> pd.DataFrame:
    """Build what is not built yet, prove each image by running it, and return the table.

    Parameters
    ----------
    only : names of images, by default all that this lab needs.
    platform : `linux/amd64` or `linux/arm64`; the lab's own by default.
    plain : emulate every program of a foreign build, as other builders do; for comparison.

    Raises
    ------
    ImageError : names the image, and the log that holds the whole output.
    """
    wanted = names(lab) if only is None else list(only)
    unknown = set(wanted) - set(plan()["images"])
    if unknown:
        raise ImageError(f"no image {', '.join(sorted(unknown))}; there are "
                         + ", ".join(plan()["images"]))
    engine.ensure(say=say)
    rows = []
    with claim.turn(root() / "build.lock", "the images", say=say):
        for name in wanted:
            architecture = (platform.removeprefix("linux/") if platform
                            else _architecture(lab, name))
            rows.append(_build(lab, name, architecture, plain, say))
    return _frame(rows)


def lacking(lab: Lab) -> list[str]:
    """Name the images of this lab that `build` would have to build."""
    return [name for name in names(lab)
            if _at_hand(tag(lab, name), _note(name, _architecture(lab, name))) is None]


def table(lab: Lab) -> pd.DataFrame:
    """Return what was built on this machine: as `build` does, and `digest`, the image's own."""
    client = engine.client()
    rows, digests = [], []
    for path in sorted((root() / "builds").glob("*.json")):
        facts = _noted(path)
        try:
            digests.append(client.images.get(facts.tag).id)
        except ImageNotFound:
            path.unlink()
            continue
        rows.append(facts)
    return _frame(rows).assign(digest=digests)


def costs(lab: Lab) -> pd.DataFrame:
    """Return what each image takes, natively and for ARM: MB, seconds, and the ratio of these."""
    rows = table(lab)
    rows["kind"] = rows.platform.str.removeprefix("linux/") + rows.way.map(
        {"native": "", "mixed": "", "emulated": ", emulated"})
    size, seconds = (rows.pivot(index="image", columns="kind", values=value)
                     for value in ("size MB", "seconds"))
    size = size[[kind for kind in size if "," not in kind]]  # emulated: the same files
    frame = size.add_prefix("MB ").join(seconds.add_prefix("s "))
    here = engine.native()
    for kind in seconds.columns.drop(here, errors="ignore"):
        if here in seconds:
            frame[f"{kind} / {here}"] = seconds[kind] / seconds[here]
    return frame.reindex([n for n in plan()["images"] if n in frame.index]).reset_index()


def base(architecture: str, say=print) -> str:
    """Return the base image for an architecture; ImageError if it cannot be had."""
    try:
        return layers.base(plan()["base"], architecture, say=say)
    except layers.LayerError as error:
        raise ImageError(str(error)) from None


def _build(lab: Lab, name: str, architecture: str, plain: bool, say) -> Built:
    facts = plan()["images"][name]
    way = _way(architecture, plain)
    target = tag(lab, name, architecture) + ("-emulated" if plain and way != "native" else "")
    note = _note(name, architecture, "-emulated" if target.endswith("-emulated") else "")
    client = engine.client()
    old = _at_hand(target, note)
    if old:
        say(f"{name}: at hand for {architecture}")
        return old
    engine.emulate(architecture, say=say)
    parent = base(architecture, say=say)
    ground = _ground(parent, architecture, say) if way == "mixed" else parent
    say(f"{name}: building for {architecture}")
    log = root() / "logs" / f"build-{note.stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        context = shutil.copytree(FOLDER / name, Path(folder) / name)
        if name == "geoserver":
            wars.place(context, lab, say=say)
        if way == "mixed":
            raw = f"{target}-mixed"
            _docker_build(context, raw, ground, architecture, log)
            try:
                layers.take_out(raw, target, parent, architecture)
            except layers.LayerError as error:
                raise ImageError(f"{error}. Build it as others do: gislab images {name} "
                                 f"--platform linux/{architecture} --plain") from None
            finally:
                client.images.remove(raw)
        else:
            _docker_build(context, target, parent, architecture, log)
    seconds = time.monotonic() - start
    proof = _prove(name, target, architecture, facts["proof"])
    built = Built(name, f"linux/{architecture}", target,
                  client.images.get(target).attrs["Size"], round(seconds, 1), False, proof, way)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asdict(built)))
    say(f"{name}: built in {seconds:.0f} s, {built.size / 1e6:.0f} MB, {proof}")
    return built


def _note(name: str, architecture: str, emulated: str = "") -> Path:
    return root() / "builds" / f"{name}-{architecture}{emulated}.json"


def _at_hand(target: str, note: Path) -> Built | None:
    """Return what was noted of an image, if the engine has it and it was proved."""
    try:
        size = engine.client().images.get(target).attrs["Size"]
    except ImageNotFound:
        return None
    old = _noted(note) if note.exists() else None
    return replace(old, size=size, cached=True) if old and old.tag == target else None


def _way(architecture: str, plain: bool) -> str:
    """How an image is built here: a PC helps an ARM build with its own programs."""
    if architecture == engine.native():
        return "native"
    return "emulated" if plain or engine.native() != "amd64" else "mixed"


def _ground(parent: str, architecture: str, say) -> str:
    native = base(engine.native(), say=say)
    try:
        return layers.with_native(FOLDER / "native.Dockerfile", parent, native, architecture,
                                  say=say)
    except layers.LayerError as error:
        raise ImageError(str(error)) from None


def _docker_build(context: Path, target: str, parent: str, architecture: str, log: Path) -> None:
    """Run one docker build: with buildx where the client has it, else the classic builder."""
    local = Local()
    has_buildx = local.run(["docker", "buildx", "version"], check=False).code == 0
    command = ["docker", "build", "--build-arg", f"BASE={parent}", "-t", target]
    # the classic builder leaves the container of a step that failed
    command += ["--platform", f"linux/{architecture}", "--load"] if has_buildx else ["--force-rm"]
    env = {**os.environ, "DOCKER_BUILDKIT": "1" if has_buildx else "0"}
    with log.open("wb") as out:
        done = subprocess.run([*command, str(context)], stdout=out, stderr=subprocess.STDOUT,
                              env=env)
    if done.returncode:
        tail = "\n    ".join(log.read_text(errors="replace").strip().splitlines()[-6:])
        raise ImageError(f"{target} was not built; the last lines of {log}:\n    {tail}")


def _prove(name: str, target: str, architecture: str, proof: list[str]) -> str:
    """Run the image: its machine must be the one asked for, and its program must answer."""
    script = 'uname -m; exec "$@" 2>&1'
    done = Local().run(["docker", "run", "--rm", "--network", "none", "--entrypoint", "bash",
                        target, "-c", script, "proof", *proof], check=False, timeout=120)
    machine, _, said = done.out.partition("\n")
    expected = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    if done.code or machine != expected:
        raise ImageError(f"{name}: does not run for {architecture} ({machine} {said} {done.err})")
    line = next((ln for ln in said.splitlines() if any(c.isdigit() for c in ln)), said)
    return f"{machine}: {line.strip()}"[:90]


def _noted(path: Path) -> Built:
    """Read what was noted when an image was built; a note from before `way` knew no mixed one."""
    facts = json.loads(path.read_text())
    own = facts["platform"] == f"linux/{engine.native()}"
    return Built(**{"way": "native" if own else "emulated", **facts})


def _architecture(lab: Lab, name: str) -> str:
    here = plan()["images"][name]["where"] == "laptop"
    return engine.native() if here else lab.architecture


def _frame(rows: list[Built]) -> pd.DataFrame:
    return pd.DataFrame([{"image": r.image, "platform": r.platform, "size MB": r.size / 1e6,
                          "seconds": r.seconds, "way": r.way, "cached": r.cached,
                          "proof": r.proof, "tag": r.tag} for r in rows])

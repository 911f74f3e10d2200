"""Build the lab's images for a platform, and say how large they are and how long it took."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from docker.errors import APIError, ImageNotFound

from . import engine, wars
from .settings import PROJECT, Lab, root
from .shell import CommandFailed, Local

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
        digest.update(wars.identity().encode())
    return f"gislab/{name}:{architecture}-{digest.hexdigest()[:12]}"


def build(lab: Lab, only: list[str] | None = None, *, platform: str | None = None,
          say=print) -> pd.DataFrame:
    """Build what is not built yet, prove each image by running it, and return the table.

    Parameters
    ----------
    only : names of images, by default all that this lab needs.
    platform : `linux/amd64` or `linux/arm64`; the lab's own by default.

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
    for name in wanted:
        architecture = (platform.removeprefix("linux/") if platform
                        else _architecture(lab, name))
        rows.append(_build(lab, name, architecture, say))
    return _frame(rows)


def table(lab: Lab) -> pd.DataFrame:
    """Return what was built on this machine: as `build` does, and `digest`, the image's own."""
    client = engine.client()
    rows, digests = [], []
    for path in sorted((root() / "builds").glob("*.json")):
        facts = Built(**json.loads(path.read_text()))
        try:
            digests.append(client.images.get(facts.tag).id)
        except ImageNotFound:
            path.unlink()
            continue
        rows.append(facts)
    return _frame(rows).assign(digest=digests)


def base(architecture: str, say=print) -> str:
    """Return the base image for an architecture: pulled, else assembled from Debian's packages."""
    facts = plan()["base"]
    version = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:6]
    name = f"gislab/base:{facts['suite']}-{architecture}-{version}"
    client = engine.client(timeout=600)
    try:
        client.images.get(name)
        return name
    except ImageNotFound:
        pass
    try:
        image = client.images.pull(facts["image"], platform=f"linux/{architecture}")
        image.tag(name)
        say(f"base: pulled {facts['image']} for {architecture}")
    except APIError:
        say(f"base: {facts['image']} cannot be pulled here; assembling it with mmdebstrap "
            + ("(about 20 s)" if architecture == engine.native() else "(about 5 min, emulated)"))
        _assemble(facts, architecture, name, say)
    found = client.images.get(name).attrs["Architecture"]
    if found != architecture:
        raise ImageError(f"{name} says it is {found}; remove it: docker rmi {name}")
    return name


def _build(lab: Lab, name: str, architecture: str, say) -> Built:
    facts = plan()["images"][name]
    target = tag(lab, name, architecture)
    note = root() / "builds" / f"{name}-{architecture}.json"
    client = engine.client()
    try:
        size = client.images.get(target).attrs["Size"]
        old = json.loads(note.read_text()) if note.exists() else {}
        if old.get("tag") == target:
            say(f"{name}: at hand for {architecture}")
            return Built(**{**old, "size": size, "cached": True})
    except ImageNotFound:
        pass
    engine.emulate(architecture, say=say)
    parent = base(architecture, say=say)
    say(f"{name}: building for {architecture}")
    log = root() / "logs" / f"build-{name}-{architecture}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        context = shutil.copytree(FOLDER / name, Path(folder) / name)
        if name == "geoserver":
            wars.place(context, say=say)
        _docker_build(context, target, parent, architecture, log)
    seconds = time.monotonic() - start
    proof = _prove(name, target, architecture, facts["proof"])
    built = Built(name, f"linux/{architecture}", target,
                  client.images.get(target).attrs["Size"], round(seconds, 1), False, proof)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asdict(built)))
    say(f"{name}: built in {seconds:.0f} s, {built.size / 1e6:.0f} MB, {proof}")
    return built


def _docker_build(context: Path, target: str, parent: str, architecture: str, log: Path) -> None:
    """Run one docker build: with buildx where the client has it, else the classic builder."""
    local = Local()
    has_buildx = local.run(["docker", "buildx", "version"], check=False).code == 0
    command = ["docker", "build", "--build-arg", f"BASE={parent}", "-t", target]
    if has_buildx:
        command += ["--platform", f"linux/{architecture}", "--load"]
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


def _assemble(facts: dict, architecture: str, name: str, say) -> None:
    """Make the base out of Debian's packages and load it with the right architecture."""
    # arch-test: how mmdebstrap makes sure that foreign programs run here
    missing = [name for name in ("mmdebstrap", "arch-test") if shutil.which(name) is None]
    if missing:
        engine.install(*missing, say=say)
    engine.emulate(architecture, say=say)
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / "layer.tar"
        clean = Path(folder) / "docker-clean"
        clean.write_text("".join(f"{option};\n" for option in facts["apt"]))
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--architectures={architecture}",
                   *[f"--dpkgopt={option}" for option in facts["dpkg"]],
                   f"--customize-hook=copy-in {clean} /etc/apt/apt.conf.d",
                   '--customize-hook=rm -f "$1"/var/cache/apt/*.bin',
                   facts["suite"], str(layer)]
        try:
            Local().run(command, timeout=1800)
        except CommandFailed as error:
            raise ImageError(f"base: {error}") from None
        _load(layer, architecture, name)


def _load(layer: Path, architecture: str, name: str) -> None:
    """Load one layer as an image. `docker import` of engine 20.10 ignores --platform, an
    archive as `docker save` writes it does not (Docker image specification v1.2)."""
    diff = "sha256:" + hashlib.file_digest(layer.open("rb"), "sha256").hexdigest()
    config = json.dumps({"architecture": architecture, "os": "linux",
                         "config": {"Cmd": ["bash"], "Env": [
                             "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
                         "rootfs": {"type": "layers", "diff_ids": [diff]},
                         "history": [{"created_by": "mmdebstrap"}]}).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name],
                            "Layers": ["layer.tar"]}]).encode()
    archive = layer.with_name("image.tar")
    with tarfile.open(archive, "w") as tar:
        for member, data in ((config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tar.add(layer, "layer.tar")
    with archive.open("rb") as file:
        engine.client(timeout=600).images.load(file)


def _architecture(lab: Lab, name: str) -> str:
    here = plan()["images"][name]["where"] == "laptop"
    return engine.native() if here else lab.architecture


def _frame(rows: list[Built]) -> pd.DataFrame:
    return pd.DataFrame([{"image": r.image, "platform": r.platform, "size MB": r.size / 1e6,
                          "seconds": r.seconds, "cached": r.cached, "proof": r.proof,
                          "tag": r.tag} for r in rows])

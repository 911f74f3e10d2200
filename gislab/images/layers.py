"""Images as layers: the base, what an ARM image is built on here, and how that goes again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from docker.errors import APIError, ImageNotFound

from .. import engine
from ..shell import CommandFailed, Local

MACHINES = {"amd64": 0x3e, "arm64": 0xb7}  # e_machine, byte 18 of an ELF file: elf(5)


class LayerError(RuntimeError):
    """A base cannot be made, or a layer holds what it must not; the text says which."""


def base(facts: dict, architecture: str, say=print) -> str:
    """Return the base image for an architecture: pulled, else assembled from Debian's packages.

    Parameters
    ----------
    facts : the table `base` of images/images.toml.
    """
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
        raise LayerError(f"{name} says it is {found}; remove it: docker rmi {name}")
    return name


def with_native(recipe: Path, parent: str, native: str, architecture: str, say=print) -> str:
    """Return `parent` with one layer more: this machine's own builds of what building needs.

    openSUSE's build service does so for whole distributions ("native acceleration" of builds
    under emulation): what is emulated are the packages' own programs, not apt, dpkg and Perl.
    """
    client = engine.client()
    version = hashlib.sha256(recipe.read_bytes() + "".join(
        client.images.get(name).id for name in (parent, native)).encode()).hexdigest()[:12]
    name = f"gislab/native:{architecture}-{version}"
    try:
        client.images.get(name)
        return name
    except ImageNotFound:
        say(f"native: laying this machine's own apt, dpkg and Perl over the base of "
            f"{architecture}")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(recipe, Path(folder) / "Dockerfile")
        # the classic builder: BuildKit takes no local image of another platform
        done = Local().run(
            ["docker", "build", "--force-rm", "--build-arg", f"NATIVE={native}", "--build-arg",
             f"BASE={parent}", "--build-arg", f"TARGET={architecture}", "-t", name, folder],
            env={"DOCKER_BUILDKIT": "0"}, check=False, timeout=900)
    if done.code:
        raise LayerError(f"{name} was not built: {(done.out + done.err).strip()[-600:]}")
    if len(_layers(name)) != len(_layers(parent)) + 1:
        raise LayerError(f"{recipe.name} makes more than one layer over its base")
    return name


def take_out(image: str, target: str, parent: str, architecture: str) -> None:
    """Load `image` as `target`, without the layer that follows those of `parent`.

    Raises
    ------
    LayerError : a layer above holds a program of another machine, and the image is not loaded.
    """
    index = len(_layers(parent))
    client = engine.client(timeout=600)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved.tar"
        with saved.open("wb") as file:
            for chunk in client.images.get(image).save(named=True):
                file.write(chunk)
        with tarfile.open(saved) as tar:
            manifest = json.load(tar.extractfile("manifest.json"))[0]
            config = json.load(tar.extractfile(manifest["Config"]))
            layers = manifest["Layers"]
            wrong = [f for name in layers[index + 1:]
                     for f in foreign(tar.extractfile(name), architecture)]
            if wrong:
                raise LayerError(f"{target} would hold programs of another machine: "
                                 + ", ".join(wrong[:5]))
            del config["rootfs"]["diff_ids"][index], layers[index]
            made = [i for i, step in enumerate(config["history"]) if not step.get("empty_layer")]
            del config["history"][made[index]]
            archive = Path(folder) / "image.tar"
            write(archive, config, target, {name: tar.extractfile(name) for name in layers},
                  order=layers)
        with archive.open("rb") as file:
            client.images.load(file)


def foreign(layer, architecture: str) -> list[str]:
    """Name the files of a layer (a tar, open for reading) made for another machine."""
    with tarfile.open(fileobj=layer) as tar:
        return [member.name for member in tar if member.isfile() and member.size > 20
                and _is_foreign(tar.extractfile(member).read(20), architecture)]


def write(archive: Path, config: dict, name: str, files: dict, order: list[str]) -> None:
    """Write an image as `docker save` does (Docker image specification v1.2).

    `docker import` of engine 20.10 ignores --platform; an archive carries it in its config.
    """
    data = json.dumps(config).encode()
    config_name = hashlib.sha256(data).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": order}]).encode()
    with tarfile.open(archive, "w") as tar:
        for member, content in ((config_name, data), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member, file in files.items():
            info = tarfile.TarInfo(member)
            info.size = file.seek(0, io.SEEK_END)
            file.seek(0)
            tar.addfile(info, file)


def load(layer: Path, architecture: str, name: str) -> None:
    """Load one layer as an image."""
    diff = "sha256:" + hashlib.file_digest(layer.open("rb"), "sha256").hexdigest()
    config = {"architecture": architecture, "os": "linux",
              "config": {"Cmd": ["bash"], "Env": [
                  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
              "rootfs": {"type": "layers", "diff_ids": [diff]},
              "history": [{"created_by": "mmdebstrap"}]}
    archive = layer.with_name("image.tar")
    with layer.open("rb") as file:
        write(archive, config, name, {"layer.tar": file}, order=["layer.tar"])
    with archive.open("rb") as file:
        engine.client(timeout=600).images.load(file)


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
            raise LayerError(f"base: {error}") from None
        load(layer, architecture, name)


def _layers(image: str) -> list[str]:
    return engine.client().images.get(image).attrs["RootFS"]["Layers"]


def _is_foreign(head: bytes, architecture: str) -> bool:
    """An ELF file of 64 bits for one of our machines, but not for this one."""
    return (head[:4] == b"\x7fELF" and head[18] != MACHINES[architecture]
            and head[18] in MACHINES.values())

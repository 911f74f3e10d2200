"""Layers: an archive says its machine itself, and what a PC lent to a build goes again."""

import hashlib
import io
import json
import tarfile

import pytest

from gislab.images import layers


def elf(machine: int) -> bytes:
    """The first bytes of a program: elf(5)."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + bytes([machine, 0]) + bytes(44)


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Engine:
    """An engine that knows two images by their layers, gives one away and takes what it gets."""

    def __init__(self, known: dict[str, list[bytes]]):
        self.known, self.loaded = known, None
        self.images = self

    def get(self, name):
        image = type("Image", (), {})()
        image.attrs = {"RootFS": {"Layers": [digest(data) for data in self.known[name]]}}
        image.save = lambda named: [self.archive(name)]
        return image

    def archive(self, name):
        """As `docker save` writes it."""
        own = self.known[name]
        steps = [{"created_by": "base"}, {"created_by": "COPY tools"},
                 {"created_by": "ENV A=b", "empty_layer": True}, {"created_by": "RUN apt"},
                 {"created_by": "COPY entrypoint.sh"}]
        config = json.dumps({"architecture": "arm64", "history": steps,
                             "rootfs": {"type": "layers", "diff_ids": list(map(digest, own))}})
        files = {f"{i}/layer.tar": data for i, data in enumerate(own)}
        manifest = [{"Config": "c.json", "RepoTags": [name], "Layers": list(files)}]
        return tar({**files, "c.json": config.encode(),
                    "manifest.json": json.dumps(manifest).encode()})

    def load(self, file):
        self.loaded = file.read()

    def found(self):
        """Return manifest, config and layers of what was loaded."""
        with tarfile.open(fileobj=io.BytesIO(self.loaded)) as archive:
            manifest = json.load(archive.extractfile("manifest.json"))[0]
            config = archive.extractfile(manifest["Config"]).read()
            files = [archive.extractfile(name).read() for name in manifest["Layers"]]
        assert manifest["Config"] == hashlib.sha256(config).hexdigest() + ".json"
        return manifest, json.loads(config), files


@pytest.fixture
def engine(monkeypatch):
    """The stand-in in the engine's place; a test fills in what it knows."""
    made = Engine({})
    monkeypatch.setattr(layers.engine, "client", lambda timeout=0: made)
    return made


BASE, TOOLS = tar({"usr/bin/ls": elf(0xb7)}), tar({"usr/bin/ls": elf(0x3e)})
OWN = [tar({"usr/bin/haproxy": elf(0xb7)}), tar({"entrypoint.sh": b"#!/bin/bash\n" * 9})]


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_assembled_base_says_its_architecture_itself(architecture, tmp_path, engine):
    """The engine's import would ignore it, so the archive must carry it."""
    layer = tmp_path / "layer.tar"
    layer.write_bytes(BASE)
    layers.load(layer, architecture, "gislab/base:test")
    manifest, config, files = engine.found()
    assert manifest["RepoTags"] == ["gislab/base:test"] and files == [BASE]
    assert (config["architecture"], config["os"]) == (architecture, "linux")
    assert config["rootfs"]["diff_ids"] == [digest(BASE)]


def test_what_the_pc_lent_is_taken_out_and_everything_else_stays(engine):
    engine.known.update({"base": [BASE], "raw": [BASE, TOOLS, *OWN]})
    layers.take_out("raw", "gislab/haproxy:arm64-1", "base", "arm64")
    manifest, config, files = engine.found()
    assert manifest["RepoTags"] == ["gislab/haproxy:arm64-1"]
    assert files == [BASE, *OWN]
    assert config["rootfs"]["diff_ids"] == list(map(digest, files))
    assert config["architecture"] == "arm64"
    assert [step["created_by"] for step in config["history"]] == [
        "base", "ENV A=b", "RUN apt", "COPY entrypoint.sh"]


def test_an_image_that_would_keep_a_program_of_the_pc_is_refused(engine):
    """`chmod` of a lent program copies it up into a layer of the image."""
    kept = tar({"usr/bin/tar": elf(0x3e)})
    engine.known.update({"base": [BASE], "raw": [BASE, TOOLS, OWN[0], kept]})
    with pytest.raises(layers.LayerError, match="another machine: usr/bin/tar"):
        layers.take_out("raw", "gislab/haproxy:arm64-1", "base", "arm64")
    assert engine.loaded is None


def test_foreign_programs_are_told_from_own_ones_and_from_anything_else():
    layer = tar({"a": elf(0x3e), "b": elf(0xb7), "c": b"text" * 10, "d": b"", "e": elf(0xf7),
                 "f": elf(0x3e)[:10]})
    assert layers.foreign(io.BytesIO(layer), "arm64") == ["a"]
    assert layers.foreign(io.BytesIO(layer), "amd64") == ["b"]

"""The built image, looked at from outside: its layers' bytes, its configuration, and what runs in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.containers.conftest import PROJECT, free_port, wait_for
from tests.image_build.conftest import BASE, TOKEN
from tests.image_build.hub import FILES, MODEL, REVISION

if TYPE_CHECKING:
    from tests.image_build.conftest import Built, Workshop
    from tests.image_build.hub import Hub

MIB = 1 << 20


def _members(image: Built) -> dict[str, tarfile.TarInfo]:
    """Return the files of the layers over the base, the uppermost of each name."""
    found: dict[str, tarfile.TarInfo] = {}
    for digest in image.layers:
        with tarfile.open(image.blob(digest)) as archive:
            found.update({member.name.rstrip("/"): member for member in archive})
    return found


def test_every_instruction_was_executed(plain: Built) -> None:
    instructions = [line for line in plain.log.splitlines() if line.startswith("STEP ")]
    assert instructions[0].endswith(f"FROM {BASE.removeprefix('docker.io/')}")
    assert instructions[-1].endswith("CMD []")
    number, _, total = instructions[-1].removeprefix("STEP ").partition(":")[0].partition("/")
    assert number == total == str(len(instructions))


def test_the_programs_are_in_it_and_are_roots(plain: Built) -> None:
    members = _members(plain)
    for path in (PROJECT / "image").rglob("*.py"):
        member = members[f"opt/berth/{path.relative_to(PROJECT / 'image')}"]
        assert (member.uid, member.gid) == (0, 0), member.name
        assert member.mode & 0o022 == 0, f"{member.name} can be changed by the image's user"
        assert member.size == path.stat().st_size
    assert members["opt/berth/entrypoint.py"].mode & 0o111 == 0o111
    assert not any(name.startswith(("root/.cache", "tmp/")) and name != "tmp" for name in members)


def test_what_the_base_has_need_not_be_compiled_at_every_start(plain: Built) -> None:
    (compiled,) = [
        path for path in _members(plain) if re.search(r"__pycache__/of_the_base\.[^/]+\.pyc$", path)
    ]
    assert compiled.startswith("usr/local/lib/python3")


def test_its_configuration(plain: Built) -> None:
    config = plain.config["config"]
    assert config["User"] == "2000:0"
    assert config["WorkingDir"] == "/home/vllm"
    assert config["Entrypoint"] == ["python3", "/opt/berth/entrypoint.py"]
    assert not config.get("Cmd")
    assert "8000/tcp" in config["ExposedPorts"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()
    }
    assert labels["version"] == "1.2.3"
    assert labels["source"] == "https://example.com/berth"
    assert labels["revision"] == "abc"
    assert labels["base.name"] == BASE
    assert labels["base.digest"] == f"sha256:{'0' * 64}"


def test_the_layers_are_small(plain: Built) -> None:
    door, audio, *programs = sorted(plain.layers.values(), reverse=True)
    # Not compressed: RunPod's SDK with all that it needs, and SciPy with PyAV's codecs.
    assert door < 300 * MIB
    assert 1 * MIB < audio < 250 * MIB
    assert sum(programs) < 1 * MIB


def test_the_door_has_runpod_and_vllm_does_not(workshop: Workshop, plain: Built) -> None:
    door = "import runpod, aiohttp, uvloop; print(runpod.__version__)"
    assert workshop.buildah.run(plain.name, "/opt/berth/door/bin/python", "-c", door).strip() == "1.12.0"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        workshop.buildah.run(plain.name, "python3", "-c", "import runpod")
    assert "No module named 'runpod'" in caught.value.stderr


def test_vllms_python_can_hear(workshop: Workshop, plain: Built) -> None:
    program = (
        "import av, io, numpy, scipy.signal, soundfile, soxr\n"
        "file = io.BytesIO()\n"
        "soundfile.write(file, numpy.sin(numpy.arange(16000) / 20), 16000, format='OGG')\n"
        "file.seek(0)\n"
        "heard, rate = soundfile.read(file)\n"
        "print(len(soxr.resample(heard, rate, 8000)), av.__version__, soundfile.__file__)\n"
    )
    samples, version, path = workshop.buildah.run(plain.name, "python3", "-c", program).split()
    assert (samples, version) == ("8000", "18.1.0")
    assert path.startswith("/usr/local/lib/python3"), "it is the base's own, and not what the build installed"


def test_the_container_serves_as_its_user(workshop: Workshop, plain: Built) -> None:
    port = free_port("127.0.0.1")
    container = workshop.buildah("from", "--pull-never", plain.name).strip()
    entrypoint = plain.config["config"]["Entrypoint"]
    options = ["--env", f"PORT={port}", "--env", "BERTH_HOST=127.0.0.1"]
    with workshop.buildah.start(*options, container, "--", *entrypoint, MODEL) as process:
        try:

            def told() -> httpx.Response | None:
                assert process.poll() is None, process.communicate()[0]
                try:
                    return httpx.get(f"http://127.0.0.1:{port}/health")
                except httpx.TransportError:
                    return None

            wait_for(told, 60)
            answer = httpx.get(f"http://127.0.0.1:{port}/health").json()
            user = workshop.buildah("run", container, "--", "id", "-u")
        finally:
            process.terminate()
    workshop.buildah("rm", container)
    assert answer["args"][:2] == ["serve", MODEL]
    assert answer["env"]["HOME"] == "/home/vllm"
    assert answer["cwd"] == "/home/vllm"
    assert user.strip() == "2000"


def test_a_model_is_in_the_image_and_can_be_read_by_its_user(workshop: Workshop, baked: Built) -> None:
    folder = f"/opt/berth/hub/models--{MODEL.replace('/', '--')}/snapshots/{REVISION}"
    for name in ("config.json", "model.safetensors"):
        assert workshop.buildah.run(baked.name, "cat", f"{folder}/{name}") == FILES[name].decode()
    assert "pytorch_model.bin" not in workshop.buildah.run(baked.name, "ls", folder)


def test_the_token_is_in_no_layer_and_no_history(baked: Built, hub: Hub) -> None:
    assert any("/resolve/" in path for path in hub.asked), "the hub was not asked with the token"
    searched = 0
    for path in baked.folder.iterdir():  # the layers are not compressed
        content = path.read_bytes()
        assert TOKEN.encode() not in content
        searched += FILES["model.safetensors"] in content
    assert searched, "the layer with the weights was not among what was searched"
    assert TOKEN not in json.dumps(baked.config)
    assert TOKEN not in baked.log


def test_the_other_layers_are_those_without_a_model(plain: Built, baked: Built) -> None:
    added = [size for digest, size in baked.layers.items() if digest not in plain.layers]
    assert sum(added) < MIB, "a model brings its own layer and no other"
    assert len(added) < len(baked.layers)


def test_a_model_without_its_token_ends_the_build(workshop: Workshop, plain: Built) -> None:
    assert plain
    # Of another revision, so that no layer that was built with the token is taken.
    options = ("--build-arg", f"MODEL={MODEL}", "--build-arg", f"REVISION={'f' * 40}")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        workshop.build("berth:none", *options)
    said = caught.value.stdout + caught.value.stderr
    assert "401" in said
    assert f"models/{MODEL}" in said


def test_its_bill_of_materials_names_what_the_build_put_in(workshop: Workshop, plain: Built) -> None:
    container = workshop.buildah("from", "--pull-never", plain.name).strip()
    rootfs = workshop.buildah("mount", container).strip()
    program = Path(sys.executable).with_name("syft")
    options = ["--quiet", "--output", "cyclonedx-json", "--select-catalogers", "python,dpkg"]
    try:
        said = subprocess.run(
            [program, "scan", f"dir:{rootfs}", *options],
            env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout
    finally:
        workshop.buildah("rm", container)
    components = json.loads(said)["components"]
    named = {
        (each["name"].lower().replace("_", "-"), each["version"]) for each in components if "version" in each
    }
    for lock in ("requirements.lock", "requirements-audio.lock"):
        pinned = re.findall(r"^([a-z0-9-]+)==(\S+)", (PROJECT / "image" / lock).read_text(), re.MULTILINE)
        assert len(pinned) > 3
        assert set(pinned) <= {(name.replace(".", "-"), version) for name, version in named}
    assert {"libc6", "python3-minimal"} <= {name for name, _ in named}, "Debian's own packages are missing"

"""The project's image, really built: its Dockerfile's every instruction, on a base with what vLLM's has.

The official base has ten gigabytes and is on a registry that tests do not ask. What the Dockerfile needs of
it is made here: Debian's Python in the place of Ubuntu's, a `vllm` command, user 2000 with a writable home,
and vLLM's packages, which are those of the sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox import buildah, cache, vllm
from tests.containers.conftest import PROJECT
from tests.image_build.hub import MODEL, REVISION, Hub

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "hf_" + "ThisIsNoTokenOfAnybody" * 2
BASE = "docker.io/vllm/vllm-openai:v0.32.0"
_BASE = """\
FROM scratch
ADD rootfs.tar /
COPY --chmod=0755 vllm /usr/local/bin/vllm
RUN useradd --uid 2000 --gid 0 --create-home vllm && chmod 0770 /home/vllm \\
    && echo /opt/vllm > /usr/lib/python3/dist-packages/vllm.pth \\
    && site="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \\
    && mkdir -p "$site" && echo 'COMPILED = False' > "$site/of_the_base.py" \\
    && printf '[global]\\nno-index = true\\nfind-links = /opt/wheels\\n' > /etc/pip.conf
ENV HF_ENDPOINT={hub}
WORKDIR /vllm-workspace
ENTRYPOINT ["vllm", "serve"]
"""


@dataclass(frozen=True)
class Built:
    """An image that was built, as it would be pushed."""

    name: str
    log: str
    folder: Path
    base_layers: int

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return self._json(self.folder / "manifest.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        return self._json(self.blob(self.manifest["config"]["digest"]))

    @cached_property
    def layers(self) -> dict[str, int]:
        """Sizes in bytes, not compressed, of the layers that the build put on its base, by digest."""
        return {each["digest"]: each["size"] for each in self.manifest["layers"][self.base_layers :]}

    def blob(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")

    @staticmethod
    def _json(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found


@dataclass(frozen=True)
class Workshop:
    """What builds images, and how many layers its base has."""

    buildah: buildah.Buildah
    folder: Path
    base_layers: int

    def build(self, name: str, *options: str) -> Built:
        log = self.buildah.build(PROJECT / "image", name, *options)
        folder = self.buildah.export(name, self.folder / name.replace(":", "-"))
        return Built(name, log, folder, self.base_layers)


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    server = Hub(TOKEN)
    yield server
    server.close()


@pytest.fixture(scope="session")
def vllm_packages() -> Iterator[Path]:
    """The sandbox's packages of vLLM, less those for sound, which the official base lacks as well."""
    environment = vllm.ensure(print)
    packages = next((environment / "lib").glob("python3.*/site-packages"))
    # Beside the environment, whose files can then be linked and need not be copied.
    with tempfile.TemporaryDirectory(dir=cache.directory()) as folder:
        linked = Path(folder) / "site-packages"
        # Whatever has been imported from them before, their bytecode is not there.
        left_out = shutil.ignore_patterns(
            "av", "av-*", "av.libs", "*soundfile*", "scipy*", "soxr*", "__pycache__"
        )
        shutil.copytree(packages, linked, copy_function=os.link, ignore=left_out)
        # The build looks for this one file, and cannot write it into a folder that is mounted.
        python, module = environment / "bin" / "python", linked / "vllm" / "__init__.py"
        subprocess.run([python, "-m", "py_compile", module], check=True)
        yield linked


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, hub: Hub, vllm_packages: Path) -> Iterator[Workshop]:
    try:
        parts = buildah.ready(print, install=False)
    except buildah.UnavailableError as error:
        pytest.skip(f"images are not built for real here: {error}")
    folder = tmp_path_factory.mktemp("workshop")
    command = buildah.Buildah(folder, {"/opt/wheels": parts.wheels, "/opt/vllm": vllm_packages})
    context = folder / "base"
    context.mkdir()
    (context / "Dockerfile").write_text(_BASE.format(hub=hub.url))
    fake = (PROJECT / "tests/containers/fake_vllm.py").read_text()
    (context / "vllm").write_text("#!/usr/bin/python3\n" + fake)
    (context / "rootfs.tar").hardlink_to(parts.rootfs)
    command.build(context, BASE)
    shutil.rmtree(context)
    described = json.loads(command("inspect", "--type", "image", BASE))
    yield Workshop(command, folder, len(described["OCIv1"]["rootfs"]["diff_ids"]))
    command.close()


@pytest.fixture(scope="session")
def plain(workshop: Workshop) -> Built:
    """The image without a model."""
    return workshop.build(
        "berth:plain",
        *("--build-arg", "VERSION=1.2.3", "--build-arg", "SOURCE=https://example.com/berth"),
        *("--build-arg", "SOURCE_REVISION=abc", "--build-arg", f"BASE_DIGEST=sha256:{'0' * 64}"),
    )


@pytest.fixture(scope="session")
def baked(workshop: Workshop, plain: Built) -> Built:
    """The image with a model in it that is not public; after `plain`, whose layers it shares."""
    assert plain
    secret = workshop.folder / "hub-token"
    secret.write_text(TOKEN)
    return workshop.build(
        "berth:baked",
        *("--build-arg", f"MODEL={MODEL}", "--build-arg", f"REVISION={REVISION}"),
        *("--secret", f"id=hub-token,src={secret}"),
    )

"""What the launcher tells uv of pip's settings, and what it takes from the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ops.bootstrap import LOCK_FILE, BootstrapError, pinned, uv_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_pips_index_certificates_and_proxy_become_uvs() -> None:
    said = """\
global.index-url='https://index.example/simple'
:env:.extra-index-url='https://a.example/ https://b.example/'
global.cert='/etc/certs.pem'
install.proxy='http://proxy.example:3128'
global.trusted-host='index.example'
global.timeout='180'
global.disable-pip-version-check='1'
"""
    assert uv_settings(said, {}) == {
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://a.example/ https://b.example/",
        "SSL_CERT_FILE": "/etc/certs.pem",
        "ALL_PROXY": "http://proxy.example:3128",
        "UV_INSECURE_HOST": "index.example",
        "UV_HTTP_TIMEOUT": "180",
    }


def test_what_uv_is_told_by_its_own_variables_stays() -> None:
    said = "global.index-url='https://pips.example/simple'\nglobal.cert='/pips.pem'"
    assert uv_settings(said, {"UV_INDEX_URL": "https://uvs.example"}) == {"SSL_CERT_FILE": "/pips.pem"}
    assert "SSL_CERT_FILE" not in uv_settings(said, {"SSL_CERT_FILE": "/uvs.pem"})


def test_a_folder_of_wheels_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    said = f"global.find-links='{tmp_path} /no/such/folder https://wheels.example/'"
    assert uv_settings(said, {}) == {"UV_FIND_LINKS": f"{tmp_path},https://wheels.example/"}


@pytest.mark.parametrize(("value", "settings"), [("true", {"UV_NO_INDEX": "true"}), ("false", {})])
def test_no_index_is_passed_on_when_it_is_on(value: str, settings: dict[str, str]) -> None:
    assert uv_settings(f"global.no-index='{value}'", {}) == settings


def test_one_package_is_taken_from_the_lock_with_all_its_hashes() -> None:
    before, wanted = (
        "a==1 \\\n    --hash=sha256:aa\n",
        "uv==2.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n",
    )
    lock = f"{before}{wanted}uvicorn==3 \\\n    --hash=sha256:dd\n"
    assert pinned("uv", lock) == wanted
    with pytest.raises(BootstrapError, match="does not pin nothing"):
        pinned("nothing", lock)


def test_the_lock_pins_every_package_by_hash_and_names_no_index() -> None:
    lock = LOCK_FILE.read_text()
    packages = [line for line in lock.splitlines() if not line.startswith(" ")]
    assert packages
    assert all("==" in line and line.endswith("\\") for line in packages)
    assert "://" not in lock
    assert "--hash=sha256:" in pinned("uv", lock)

"""The image's inventory, made here for the server that was built here: every library has its package, licence and entry."""

import json
import pathlib
import re
import subprocess

import pytest

from support import builds

pytestmark = [pytest.mark.check_only, pytest.mark.only_on("release")]
SCRIPT = builds.TOP / "deploy/image/inventory.sh"


def libraries(program):
    text = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=60, check=True).stdout
    return sorted(set(re.findall(r"/\S+", text)))


def make(root, *arguments, **variables):
    return subprocess.run([str(SCRIPT), str(root), *arguments], capture_output=True, text=True, timeout=120, check=False,
                          env={**builds.environment(), **variables})


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_library_has_its_package(build, tmp_path):
    loaded = libraries(build.server)
    assert len(loaded) > 10
    made = make(tmp_path, "1.2.3", *loaded)
    assert made.returncode == 0, made.stderr
    status = {path.name: path.read_text() for path in (tmp_path / "var/lib/dpkg/status.d").iterdir()}
    for name in ("libc6", "libmicrohttpd12", "libuv1", "libjansson4", "liblmdb0", "zlib1g"):
        assert re.search(f"^Package: {name}$", status[name], re.M) and re.search("^Version: .", status[name], re.M)
    for name in status:
        assert (tmp_path / "usr/share/doc" / name / "copyright").stat().st_size > 100, name
    assert "VERSION_ID=" in (tmp_path / "etc/os-release").read_text()

    document = json.loads((tmp_path / "usr/share/doc/dien-server/sbom.spdx.json").read_text())
    assert document["spdxVersion"] == "SPDX-2.3" and document["SPDXID"] == "SPDXRef-DOCUMENT"
    packages = {package["name"]: package for package in document["packages"]}
    assert set(packages) == {*status, "dien-server"} and packages["dien-server"]["versionInfo"] == "1.2.3"
    for name, text in status.items():
        version = re.search("^Version: (.*)$", text, re.M)[1]
        assert packages[name]["versionInfo"] == version
        assert packages[name]["externalRefs"][0]["referenceLocator"].startswith(f"pkg:deb/debian/{name}@")
    ids = [package["SPDXID"] for package in document["packages"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", each) for each in ids)
    related = {relation["relatedSpdxElement"] for relation in document["relationships"]}
    assert related == set(ids) and all(relation["spdxElementId"] in {*ids, "SPDXRef-DOCUMENT"}
                                       for relation in document["relationships"])


def test_it_is_the_same_each_time(build, tmp_path):
    loaded = libraries(build.server)
    for name in ("one", "two"):
        assert make(tmp_path / name, "1.2.3", *loaded, SOURCE_DATE_EPOCH="1700000000").returncode == 0
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    assert b"2023-11-14T22:13:20Z" in one["usr/share/doc/dien-server/sbom.spdx.json"]


def test_a_library_of_no_package_is_an_error(tmp_path):
    stranger = tmp_path / "libstranger.so"
    stranger.write_bytes(b"")
    made = make(tmp_path / "root", "1", str(stranger))
    assert made.returncode == 1 and "libstranger" in made.stderr


def test_the_dockerfile_uses_it():
    text = pathlib.Path(builds.TOP / "Dockerfile").read_text()
    assert "COPY deploy/image ./deploy/image" in text and "deploy/image/inventory.sh" in text
    for label in ("title", "description", "licenses", "version", "revision", "created"):
        assert f"org.opencontainers.image.{label}=" in text

"""The image, built by the Dockerfile and run as a cluster runs it. Slow: `make image` asks for these tests."""

import re
from pathlib import Path

import aiohttp
import pytest

from relay import __version__
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, settings, write
from tests.image.conftest import Image

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

# What nobody needs who runs the relay, and everybody who breaks into it.
TOOLS = {
    "sh",
    "bash",
    "dash",
    "busybox",
    "apt",
    "apt-get",
    "dpkg",
    "pip",
    "pip3",
    "gcc",
    "cc",
    "perl",
    "curl",
    "wget",
    "tar",
}


def mounts(folder: Path, flagsmith: StandInFlagsmith, heap: StandInHeap) -> tuple[Path, Path]:
    """A folder with the YAML, and one for the outbox that the image's user may write."""
    config, data = folder / "config", folder / "data"
    for each in (config, data):
        each.mkdir()
    data.chmod(0o777)  # only root could give it to the image's user
    outbox = {"url": "sqlite:////var/lib/relay/outbox.db", "ephemeral": True}
    write(config, settings(flagsmith, heap, outbox=outbox, log={"format": "json"}))
    return config, data


async def test_the_entry_point_delivers_an_event_from_a_read_only_root(
    image: Image, tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    config, data = mounts(tmp_path, flagsmith, heap)
    async with image.running(config, data) as relay:
        await relay.wait_for("relay.started")

        answer = await http.get(
            f"{relay.url}/api/v1/identities/?identifier=ada", headers={"X-Environment-Key": CLIENT_KEY}
        )
        relay.terminate()

        assert answer.status == 200
        assert await relay.ended() == 0
    assert [event.identity for event in heap.stored(APP_ID)] == ["ada"]
    assert not any("unavailable" in line["event"] for line in relay.lines)


async def test_a_file_with_mistakes_ends_it_with_exit_code_2(
    image: Image, tmp_path: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    config, data = mounts(tmp_path, flagsmith, heap)
    config.joinpath("config.yaml").write_text("environments: [")

    async with image.running(config, data) as relay:
        assert await relay.ended() == 2


def test_it_runs_as_a_numeric_user_who_is_not_root(image: Image) -> None:
    assert [part for part in image.user.split(":") if not part.isdigit() or int(part) == 0] == []


def test_it_holds_no_shell_no_package_manager_and_no_compiler(image: Image) -> None:
    assert not {path.name for path in image.files if path.parent.name in {"bin", "sbin"}} & TOOLS
    assert not [
        path for path in image.files if path.match("site-packages/pip") or path.match("site-packages/setuptools")
    ]


def test_its_own_programs_are_the_relay_and_what_runs_it(image: Image) -> None:
    assert {path.name for path in image.files if path.parent == Path("app/bin")} == {"relay", "python"}


def test_a_scanner_is_told_of_every_package_that_is_there_and_of_no_other(image: Image) -> None:
    """It reports the holes of what is listed, and of nothing else."""
    listed = set(re.findall(r"^Package: (.+)", image.read("var/lib/dpkg/status"), re.MULTILINE))

    assert {"base-files", "ca-certificates", "libc6"} <= listed
    assert not listed & {"apt", "bash", "coreutils", "dash", "dpkg", "gpgv", "perl-base", "tar", "util-linux"}


def test_only_what_a_volume_may_cover_is_writable_for_its_user(image: Image) -> None:
    writable = {
        path for path, file in image.files.items() if not file.issym() and (file.uid == 65532 or file.mode & 0o002)
    }

    assert writable == {Path("tmp"), Path("var/lib/relay")}


def test_it_is_labelled_and_probes_itself_without_a_shell(image: Image) -> None:
    assert image.config["Labels"]["org.opencontainers.image.version"] == __version__
    assert image.config["Healthcheck"]["Test"] == ["CMD", "/app/bin/relay", "health"]
    assert image.config["Entrypoint"] == ["/app/bin/relay"]


def test_every_module_has_its_byte_code(image: Image) -> None:
    """On a read-only root Python cannot keep it, and every start would compile it all again."""
    modules = {path for path in image.files if path.suffix == ".py" and "site-packages/relay/" in str(path)}
    compiled = {path.parent.parent / path.name.partition(".")[0] for path in image.files if path.suffix == ".pyc"}

    assert modules
    assert {path for path in modules if path.with_suffix("") not in compiled} == set()

"""Lay out the root file system of the image at argv[1]: Python, the shared libraries it loads, certificates, /app.

Whatever is not needed to run is left behind with the base image: shells, the package manager, pip. Nothing in it is
younger than SOURCE_DATE_EPOCH, and byte code does not depend on when it was made, so the same sources give the same
layer.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

Ignore = Callable[[str, list[str]], set[str]]

APP = Path("/app")
USER = 65532
# Parts of the standard library that a service never imports.
NEEDLESS = (
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
    "turtledemo",
    "site-packages",
    "dist-packages",
)
# What of /app runs the relay. The rest is for whoever has a shell: to activate it, to compile against it, to call the
# programs of other packages.
WANTED = {APP: {"bin", "lib", "pyvenv.cfg"}, APP / "bin": {"python", "relay"}}
# What the relay was installed with, and is not run with.
BUILD_TOOLS = ("setuptools*", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
# What the C library and OpenSSL look for by these names, and what tells a scanner which Debian this is.
SYSTEM = (
    *(
        "/etc/ssl",
        "/usr/lib/ssl",
        "/usr/share/ca-certificates",
        "/etc/ld.so.cache",
        "/etc/nsswitch.conf",
        "/etc/os-release",
    ),
    *("/usr/lib/os-release", "/etc/debian_version"),
)
# Loaded by name when a thread ends, so that no list of needed libraries has it.
BY_NAME = ("libgcc_s.so.1",)
DPKG = Path("/var/lib/dpkg")


def main(root: Path) -> None:
    """Fill *root*, which must not exist."""
    root.mkdir()
    merge_usr(root)
    for path in (*pythons(), *map(Path, SYSTEM)):
        copy(path, root)
    copy(standard_library(), root, ignore=shutil.ignore_patterns(*NEEDLESS, "__pycache__", "*.a"))
    copy(APP, root, ignore=needless_of_app)
    for library in libraries(root):
        copy(library, root)
    list_packages(root)
    name_user(root)
    compile_all(root)
    age(root, int(os.environ["SOURCE_DATE_EPOCH"]))


def merge_usr(root: Path) -> None:
    """Debian's /bin, /lib and the like are links into /usr."""
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            root.joinpath(name).symlink_to(Path("/", name).readlink())


def pythons() -> Iterator[Path]:
    """The interpreter as /app/bin/python finds it: link by link."""
    path = (
        Path(sys.base_prefix, "bin", "python3") if not APP.joinpath("bin/python").is_symlink() else APP / "bin/python"
    )
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path


def standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def needless_of_app(folder: str, names: list[str]) -> set[str]:
    if wanted := WANTED.get(Path(folder)):
        return set(names) - wanted
    return shutil.ignore_patterns(*BUILD_TOOLS, "__pycache__")(folder, names)


def libraries(root: Path) -> set[Path]:
    """Every shared library that something in *root* needs, by the paths under which the loader finds them."""
    found = {Path(line.split()[-1]) for line in ldconfig() if line.split()[0] in BY_NAME}
    programs = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and is_elf(path)]
    for program in programs:
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        found |= {Path(path) for path in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", said, re.MULTILINE)}
    return {path for path in found if not path.is_relative_to(root)}


def ldconfig() -> list[str]:
    said = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "=>" in line]


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def inside(path: Path, root: Path) -> Path:
    """The place of *path* below *root*, by folders that are no links."""
    return root / path.parent.resolve().relative_to("/") / path.name


def copy(path: Path, root: Path, ignore: Ignore | None = None) -> None:
    """Copy *path* to its place below *root*; a link with what it leads to."""
    target = inside(path, root)
    if not path.exists() or target.exists() or target.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(path.readlink())
        copy(path.parent / path.readlink(), root, ignore)
    elif path.is_dir():
        shutil.copytree(path, target, symlinks=True, ignore=ignore)
    else:
        shutil.copy2(path, target)


def list_packages(root: Path) -> None:
    """Those packages of the base of which a file is in *root*, as dpkg keeps them.

    A scanner reports the holes of what is listed: false alarms, if it is gone; none, if it is here and not listed.
    """
    here = {path.stem.partition(":")[0] for path in DPKG.glob("info/*.list") if has_a_file(path, root)}
    packages = [each.strip("\n") for each in (DPKG / "status").read_text().split("\n\n")]
    target = root / DPKG.relative_to("/") / "status"
    target.parent.mkdir(parents=True)
    target.write_text("".join(f"{each}\n\n" for each in packages if named(each) in here))


def has_a_file(listing: Path, root: Path) -> bool:
    """Whether *root* has a file of dpkg's *listing*. Folders have many owners."""
    paths = map(Path, listing.read_text().splitlines())
    return any(path.is_file() and os.path.lexists(inside(path, root)) for path in paths)


def named(package: str) -> str:
    return package.partition("\n")[0].removeprefix("Package: ")


def name_user(root: Path) -> None:
    """The user, for what asks the C library about it; and its folder, which a named volume takes over."""
    root.joinpath("etc/passwd").write_text(f"root:x:0:0::/:\nrelay:x:{USER}:{USER}::/var/lib/relay:\n")
    root.joinpath("etc/group").write_text(f"root:x:0:\nrelay:x:{USER}:\n")
    home = root / "var/lib/relay"
    home.mkdir(parents=True)
    home.chmod(0o700)
    os.chown(home, USER, USER)
    root.joinpath("etc/relay").mkdir()
    root.joinpath("tmp").mkdir()
    root.joinpath("tmp").chmod(0o1777)


def compile_all(root: Path) -> None:
    """Byte code beside every module: a read-only root cannot get it later, and each start would cost a second."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for folder in (standard_library(), APP / "lib"):
        place = root / folder.resolve().relative_to("/")
        if not compileall.compile_dir(place, quiet=1, stripdir=str(root), prependdir="/", invalidation_mode=mode):
            raise SystemExit(f"{folder} cannot be compiled")


def age(root: Path, moment: int) -> None:
    for path in (root, *root.rglob("*")):
        os.utime(path, (moment, moment), follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

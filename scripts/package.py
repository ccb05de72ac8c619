#!/usr/bin/env python3
"""Lay out deptune so that it runs from any place: `make install` and `make dist`.

    bin/deptune, bin/deptune-trainer    lib/deptune/*.so*    licences, README

The trainer looks for libtorch in `../lib/deptune` beside itself, so the tree may be moved
or unpacked anywhere; nothing in it names the checkout.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED_RPATH = b"$ORIGIN/../lib/deptune"
PROGRAMS = ("deptune", "deptune-trainer")
# Libraries below these belong to the system and stay there.
SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/")


class PackageError(Exception):
    """The tree cannot be made; the text says what to do."""


def cut_rpath(program: Path) -> None:
    """Drop the build's own directory from the RPATH of `program`, in place.

    The string table of an ELF file ends each string with a NUL, so a shorter text is
    written over the longer one and filled up with NULs.
    """
    data = program.read_bytes()
    found = re.findall(re.escape(INSTALLED_RPATH) + rb":[^\0]*\0", data)
    if len(found) != 1:
        raise PackageError(f"{program} holds {len(found)} library paths of the form that build.rs writes, expected 1")
    old = found[0]
    program.write_bytes(data.replace(old, INSTALLED_RPATH.ljust(len(old), b"\0")))


def libraries(trainer: Path) -> list[Path]:
    """The libraries that `trainer` loads from outside the system's own directories."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    listing = subprocess.run(
        ["ldd", str(trainer)], capture_output=True, text=True, check=True, env=environment
    ).stdout
    lost = re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE)
    if lost:
        raise PackageError(f"{trainer} does not find {', '.join(lost)}\nhint: run `make libtorch`")
    found = [Path(path) for path in re.findall(r"=> (/\S.*?) \(0x", listing)]
    own = [path for path in found if not str(path.resolve()).startswith(SYSTEM)]
    torch = next((path.parent for path in own if path.name == "libtorch_cpu.so"), None)
    if torch is None:
        raise PackageError(f"{trainer} is not linked against a libtorch outside the system's directories")
    if (torch / "libtorch_cuda.so").is_file():
        # The CUDA libraries are opened when a GPU is there, which ldd cannot see.
        own = [path for path in torch.glob("*.so*") if path.name not in ("libtorch_python.so", "libshm.so")]
    # Names for the linker only: the file that they point to is in the list by its own name.
    return sorted(path for path in own if path.name not in ("libtorch.so", "libgomp.so"))


def put(source: Path, place: Path, mode: int) -> None:
    """Copy through a temporary name, so that a running program keeps its old file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.tmp")
    shutil.copyfile(source, fresh)
    fresh.chmod(mode)
    fresh.replace(place)


def lay_out(programs: Path, prefix: Path, documents: str) -> None:
    """Fill `prefix`, with what people read in its folder `documents`."""
    for name in PROGRAMS:
        if not (programs / name).is_file():
            raise PackageError(f"{programs / name} is not built\nhint: run `make build`")
    shared = libraries(programs / "deptune-trainer")
    for library in shared:
        put(library, prefix / "lib/deptune" / library.name, 0o755)
    with tempfile.TemporaryDirectory() as scratch:
        for name in PROGRAMS:
            copy = Path(scratch, name)
            shutil.copyfile(programs / name, copy)
            if name == "deptune-trainer":
                cut_rpath(copy)
            put(copy, prefix / "bin" / name, 0o755)
    for name in ("README.md", "LICENSE"):
        put(ROOT / name, prefix / documents / name, 0o644)
    torch = next(path for path in shared if path.name == "libtorch_cpu.so")
    licenses = torch.parent.parent / "licenses"
    for license in licenses.rglob("*"):
        if license.is_file():
            put(license, prefix / documents / "licenses" / license.relative_to(licenses), 0o644)


def install(arguments: argparse.Namespace) -> None:
    """`make install PREFIX=…`"""
    prefix = Path(arguments.prefix).expanduser().absolute()
    destination = Path(f"{os.environ.get('DESTDIR', '')}{prefix}")
    lay_out(Path(arguments.programs).absolute(), destination, "share/doc/deptune")
    print(f"installed {prefix}/bin/deptune and {prefix}/bin/deptune-trainer")
    if str(prefix / "bin") not in os.environ.get("PATH", "").split(":"):
        print(f"hint: {prefix}/bin is not in your PATH")


def dist(arguments: argparse.Namespace) -> None:
    """`make dist`: the same tree as one tarball."""
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    if version is None:
        raise PackageError(f"{ROOT / 'Cargo.toml'} states no version")
    (ROOT / "dist").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "dist") as scratch:
        tree = Path(scratch, "tree")
        lay_out(Path(arguments.programs).absolute(), tree, ".")
        cuda = "-cuda" if (tree / "lib/deptune/libtorch_cuda.so").is_file() else ""
        name = f"deptune-{version.group(1)}-linux-{platform.machine()}{cuda}"
        shutil.copytree(ROOT / "deploy", tree / "deploy")
        archive = ROOT / "dist" / f"{name}.tar.gz"
        fresh = Path(scratch, archive.name)
        # One input gives one archive: no owner, no build time, sorted names.
        with fresh.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                for path in sorted(tree.rglob("*")):
                    tar.add(path, f"{name}/{path.relative_to(tree)}", recursive=False, filter=anonymous)
        fresh.replace(archive)
    print(f"{archive} ({archive.stat().st_size / 1e6:,.0f} MB)")


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take the builder's identity and clock out of an archive entry."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    return member


def main() -> int:
    """Parse, run, and turn failures into one message."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for function in (install, dist):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.add_argument("--programs", required=True, help="folder with the built programs")
        command.set_defaults(run=function)
        if function is install:
            command.add_argument("--prefix", required=True, help="folder that gets bin/, lib/ and share/")
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (PackageError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Put libtorch into the project's ignored folder `.libtorch/`, ready to link and to run.

The PyPI wheel of torch is a zip; of it we need the headers and the libraries. They come by
way of a verified copy in the user's cache directory (see wheelhouse.py), so a second clone
downloads nothing. A LIBTORCH that the user sets is checked and left alone.
Python's standard library and the pip module suffice; nothing is installed.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path

from wheelhouse import Wheel, WheelError, cache_dir, fetch, missing, say

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".libtorch"
LOCK = Path(__file__).with_name("libtorch.lock.json")
STAMP = "deptune-stamp.json"
# Raised when the unpacked layout changes, so that old folders are made anew.
LAYOUT = 1

# Python bindings, and the umbrella library that a link replaces: never needed.
NOT_OURS = ("libtorch.so", "libtorch_python.so", "libshm.so", "libtorch_global_deps.so")
ONLY_CUDA = ("*cuda*", "*nvshmem*", "libcaffe2_nvrtc.so")
# libtorch_cpu.so of the index is linked against these two even where no GPU is used.
CUDA_IN_CPU = ("libcudart.so.*", "libcupti.so.*")
# Unpacked sizes in bytes, rounded up, for the check of free space.
UNPACKED = {"cpu": 600_000_000, "cuda": 6_000_000_000}


def load_lock(arch: str, variant: str) -> tuple[str, list[Wheel]]:
    """The pinned libtorch version and the wheels that `variant` needs on `arch`."""
    lock = json.loads(LOCK.read_text())
    fields = ("name", "version", "file", "sha256", "size")
    wheels = [
        Wheel(**{field: entry[field] for field in fields})
        for entry in lock["wheels"]
        if entry["arch"] == arch and (variant == "cuda" or not entry["cuda_only"])
    ]
    if not wheels:
        raise WheelError(
            f"no libtorch is pinned for {platform.system()} on {arch}\n"
            f"hint: set LIBTORCH to a libtorch {lock['torch']} of your own"
        )
    return lock["torch"], wheels


def version_in(folder: Path) -> str | None:
    """The libtorch version that `folder` states, or None where it states none."""
    for name, pattern in (
        ("build-version", r"^\s*([0-9.]+)"),
        ("include/torch/csrc/api/include/torch/version.h", r'TORCH_VERSION "([0-9.]+)'),
        ("include/torch/headeronly/version.h", r'TORCH_VERSION "([0-9.]+)'),
        ("version.py", r"__version__ = '([0-9.]+)"),
    ):
        file = folder / name
        if file.is_file() and (found := re.search(pattern, file.read_text())):
            return found.group(1)
    return None


def check_users_own(value: str, wanted: str) -> None:
    """Raise unless the user's LIBTORCH can be built against."""
    hint = "hint: correct LIBTORCH, or unset it to let `make libtorch` fetch the right one"
    folder = Path(value)
    if not folder.is_absolute():
        raise WheelError(f"LIBTORCH must be an absolute path, not `{value}`\n{hint}")
    for name in ("lib/libtorch_cpu.so", "include/torch/csrc/api/include/torch/torch.h"):
        if not (folder / name).is_file():
            raise WheelError(f"LIBTORCH is {folder}, which has no {name}\n{hint}")
    found = version_in(folder)
    if found != wanted:
        raise WheelError(f"LIBTORCH is {folder} with libtorch {found or 'of unknown version'}, needed is {wanted}\n{hint}")
    say(f"libtorch {found} of LIBTORCH={folder} is used; nothing fetched")


def stamp_for(version: str, arch: str, variant: str, wheels: list[Wheel]) -> dict:
    """What a finished folder says about itself."""
    pins = hashlib.sha256("\n".join(wheel.sha256 for wheel in wheels).encode()).hexdigest()
    return {"layout": LAYOUT, "libtorch": version, "arch": arch, "variant": variant, "pins": pins}


def is_current(folder: Path, *stamps: dict) -> bool:
    """True if `folder` was finished by this script for one of `stamps`."""
    try:
        written = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return written in stamps and (folder / "lib/libtorch_cpu.so").is_file()


def destination(member: str, variant: str) -> str | None:
    """Where a wheel's member goes below `.libtorch/`, or None if it is not needed."""
    parts = member.split("/")
    name = parts[-1]
    if not name:
        return None
    if member.startswith("torch/include/"):
        return member.removeprefix("torch/")
    if re.fullmatch(r"torch/lib/lib[^/]+\.so[^/]*", member):
        unwanted = NOT_OURS + (ONLY_CUDA if variant == "cpu" else ())
        return None if any(fnmatch.fnmatch(name, pattern) for pattern in unwanted) else f"lib/{name}"
    if re.fullmatch(r"nvidia/[^/]+/lib/[^/]+\.so[^/]*", member):
        wanted = variant == "cuda" or any(fnmatch.fnmatch(name, pattern) for pattern in CUDA_IN_CPU)
        return f"lib/{name}" if wanted else None
    if re.fullmatch(r"[^/]+\.dist-info/(licenses/)?(LICENSE|NOTICE|License)(\.txt)?", member):
        return f"licenses/{parts[0].removesuffix('.dist-info')}/{name}"
    return None


def unpack(wheels: list[Path], folder: Path, variant: str) -> None:
    """Fill `folder` from the wheels."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                place = destination(member, variant)
                if place is None:
                    continue
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                if place.startswith("lib/"):
                    path.chmod(0o755)
    # `-ltorch` and `-lgomp` ask for these names. The umbrella libtorch.so would pull the
    # CUDA libraries in; the CPU library holds all symbols that we link.
    (folder / "lib/libtorch.so").symlink_to("libtorch_cpu.so")
    (folder / "lib/libgomp.so").symlink_to("libgomp.so.1")


def install(wheels: list[Path], stamp: dict) -> None:
    """Unpack beside `.libtorch/` and swap, so that nobody sees half a folder."""
    free = shutil.disk_usage(ROOT).free
    need = UNPACKED[stamp["variant"]]
    if free < need:
        raise WheelError(f"{ROOT} has {free / 1e9:.1f} GB free, libtorch needs {need / 1e9:.1f} GB unpacked")
    for stale in ROOT.glob(".libtorch.tmp-*"):
        shutil.rmtree(stale)
    fresh = ROOT / f".libtorch.tmp-{os.getpid()}"
    fresh.mkdir()
    try:
        unpack(wheels, fresh, stamp["variant"])
        # The name and form that libtorch's own archives use; torch-sys compares it.
        (fresh / "build-version").write_text(stamp["libtorch"] + "\n")
        (fresh / STAMP).write_text(json.dumps(stamp) + "\n")
        if TARGET.exists():
            old = ROOT / f".libtorch.tmp-{os.getpid()}-old"
            TARGET.rename(old)
            fresh.rename(TARGET)
            shutil.rmtree(old)
        else:
            fresh.rename(TARGET)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def show_plan(wheels: list[Wheel], variant: str) -> None:
    """What would be fetched, for `--dry-run`."""
    cache = cache_dir()
    lacking = set(missing(wheels, cache))
    for wheel in wheels:
        state = "to download" if wheel in lacking else "in the cache"
        print(f"{wheel.size / 1e6:9.1f} MB  {state:12}  {wheel.file}")
    total = sum(wheel.size for wheel in lacking)
    print(f"{total / 1e6:9.1f} MB  to download into {cache}")
    print(f"{UNPACKED[variant] / 1e6:9.1f} MB  at most unpacked in {TARGET}")


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks."""
    arch, variant = platform.machine(), "cuda" if arguments.cuda else "cpu"
    version, wheels = load_lock(arch, variant)
    if "LIBTORCH" in os.environ:
        check_users_own(os.environ["LIBTORCH"], version)
        return
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        say("LIBTORCH_USE_PYTORCH is set: Python's own torch is used; nothing fetched")
        return
    if arguments.dry_run:
        show_plan(wheels, variant)
        return
    stamp = stamp_for(version, arch, variant, wheels)
    # The CUDA folder holds all that a CPU build needs.
    with_cuda = stamp_for(version, arch, "cuda", load_lock(arch, "cuda")[1])
    if is_current(TARGET, stamp, with_cuda):
        return
    say(f"fetching libtorch {version} ({variant}) by way of {cache_dir()}")
    paths = fetch(wheels, cache_dir())
    say(f"unpacking into {TARGET}")
    install(paths, stamp)
    say(f"libtorch {version} ({variant}) is ready in {TARGET}")


def main() -> int:
    """Parse, run, and turn failures into one message."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true", help="with the CUDA libraries (2.5 GB download, 5 GB unpacked)")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, fetch nothing")
    try:
        run(parser.parse_args())
    except WheelError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; run again to resume")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

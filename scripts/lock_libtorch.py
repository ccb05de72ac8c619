#!/usr/bin/env python3
"""Write scripts/libtorch.lock.json anew, for the maintainer who moves to another libtorch.

pip's resolver chooses the wheels and their hashes from the user's own index; nothing is
downloaded but metadata, which needs pip >= 24.1 (older ones fetch whole wheels).

    python3 scripts/lock_libtorch.py 2.11.0
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

LOCK = Path(__file__).with_name("libtorch.lock.json")
ARCHES = ("x86_64", "aarch64")
# What a CPU build of libtorch still links: torch's PyPI wheels are CUDA builds.
CPU_WHEELS = ("torch", "nvidia-cuda-runtime", "nvidia-cuda-cupti")


def resolve(torch_version: str, arch: str) -> list[dict]:
    """The install report entries of torch and of all that it depends on, for `arch`."""
    platforms = [f"manylinux_2_{minor}_{arch}" for minor in range(28, 4, -1)]
    platforms.append(f"manylinux2014_{arch}")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", "--only-binary=:all:", "--report", str(report), "--target", scratch),
            *("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
            *(word for tag in platforms for word in ("--platform", tag)),
            f"torch=={torch_version}",
        ]
        subprocess.run(command, check=True)
        return json.loads(report.read_text())["install"]


def size_of(url: str) -> int:
    """Length of the file at `url` in bytes."""
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as reply:
        return int(reply.headers["Content-Length"])


def main() -> None:
    """Resolve for every architecture and write the lock."""
    torch_version = sys.argv[1]
    wheels = []
    for arch in ARCHES:
        for entry in resolve(torch_version, arch):
            name = entry["metadata"]["name"].lower().replace("_", "-")
            # Of torch's dependencies only these hold libraries that libtorch loads.
            if name != "torch" and not name.startswith("nvidia-"):
                continue
            url = entry["download_info"]["url"]
            wheels.append(
                {
                    "arch": arch,
                    "name": name,
                    "version": entry["metadata"]["version"],
                    "file": url.rsplit("/", 1)[-1],
                    "sha256": entry["download_info"]["archive_info"]["hashes"]["sha256"],
                    "size": size_of(url),
                    "cuda_only": name not in CPU_WHEELS,
                }
            )
    wheels.sort(key=lambda wheel: (wheel["arch"], wheel["cuda_only"], wheel["name"]))
    LOCK.write_text(json.dumps({"torch": torch_version, "wheels": wheels}, indent=1) + "\n")
    print(f"{LOCK}: {len(wheels)} wheels")


if __name__ == "__main__":
    main()

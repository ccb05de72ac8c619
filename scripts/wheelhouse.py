"""Verified copies of pinned wheels in the user's cache directory.

Contract: `fetch` returns files whose SHA-256 is the pinned one, or raises `WheelError` with
the next step in its text. Where a wheel comes from is pip's business: its finder and its
network session are used, so that the user's index, mirror, proxy, certificate and
credential settings hold. Only the transfer is our own, because pip (before 25.1) cannot
resume one, and a wheel here has half a gigabyte.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
# Transfers that bring nothing new, in a row, before we give up.
ATTEMPTS = 5
PYTHON_TAGS = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")


class WheelError(Exception):
    """A wheel could not be had; the text says what to do."""


@dataclass(frozen=True)
class Wheel:
    """One pinned file of the package index."""

    name: str
    version: str
    file: str
    sha256: str
    size: int  # bytes

    @property
    def pip_options(self) -> list[str]:
        """pip options under which exactly this file fits, whatever Python runs us."""
        platforms = self.file.removesuffix(".whl").rsplit("-", 1)[1].split(".")
        words = [*PYTHON_TAGS, "--abi", "none", "--only-binary=:all:"]
        return [*words, *(word for tag in platforms for word in ("--platform", tag))]


def cache_dir() -> Path:
    """Where verified wheels are kept between clones."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path there is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "deptune" / "wheels"


def say(text: str) -> None:
    """One line for the person on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Bytes done of a known total: a moving line on a terminal, else a line per tenth."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total = label, total
        self.live = sys.stderr.isatty()
        self.last, self.began, self.offset = -1, time.monotonic(), -1

    def show(self, done: int) -> None:
        """Tell how far we are, if it is worth a line."""
        if self.offset < 0:
            self.offset = done
        percent = 100 * done // max(self.total, 1)
        step = percent if self.live else percent // 10
        if step == self.last:
            return
        self.last = step
        rate = (done - self.offset) / max(time.monotonic() - self.began, 1e-3) / 1e6
        line = f"{self.label}: {done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB ({percent} %, {rate:.1f} MB/s)"
        print(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the moving line."""
        if self.live:
            say("")


def missing(wheels: list[Wheel], cache: Path) -> list[Wheel]:
    """Those wheels that the cache does not hold at full length."""
    return [wheel for wheel in wheels if not _complete(cache / wheel.file, wheel)]


def fetch(wheels: list[Wheel], cache: Path) -> list[Path]:
    """Bring all wheels into `cache`, verify every one, and return their paths in order."""
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache):
        paths = []
        for wheel in wheels:
            path = cache / wheel.file
            if _complete(path, wheel) and _sha256(path) != wheel.sha256:
                say(f"{path} does not have the pinned SHA-256; fetching it again")
                path.unlink()
            if not _complete(path, wheel):
                _bring(wheel, path)
            paths.append(path)
        return paths


def _complete(path: Path, wheel: Wheel) -> bool:
    return path.is_file() and path.stat().st_size == wheel.size


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    """Keep two clones from writing the same partial file."""
    with (cache / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another download into {cache}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            # Some network file systems have no locks; the final check of the hash remains.
            pass
        yield


def _bring(wheel: Wheel, path: Path) -> None:
    """Download to `path`.part, verify, rename."""
    part = path.with_name(path.name + ".part")
    free = os.statvfs(path.parent)
    have = part.stat().st_size if part.exists() else 0
    if free.f_bavail * free.f_frsize < wheel.size - have:
        raise WheelError(
            f"not enough space in {path.parent} for {wheel.file} ({wheel.size / 1e6:,.0f} MB)\n"
            "hint: free some, or set XDG_CACHE_HOME to a larger file system"
        )
    try:
        _through_pip_session(wheel, part)
    except (ImportError, AttributeError, TypeError) as error:
        # pip promises nothing about its modules; its command line is the way that remains.
        say(f"note: this pip cannot be used for a resumable download ({error}); using `pip download`")
        _through_pip_command(wheel, part)
    found = _sha256(part)
    if found != wheel.sha256:
        part.unlink()
        raise WheelError(
            f"{wheel.file} came with SHA-256 {found}, pinned is {wheel.sha256}; the download was deleted\n"
            "hint: run again; if it stays so, the index or a proxy on the way serves another file"
        )
    part.replace(path)


def _through_pip_session(wheel: Wheel, part: Path) -> None:
    try:
        import pip  # noqa: F401
    except ImportError:
        raise WheelError(
            f"{sys.executable} has no pip module\n"
            "hint: install it: `apt-get install python3-pip`, `dnf install python3-pip` or `python3 -m ensurepip`"
        ) from None
    from pip._internal.cli import cmdoptions
    from pip._internal.commands import create_command
    from pip._internal.exceptions import PipError
    from pip._vendor.urllib3.exceptions import HTTPError

    command = create_command("index")
    options, _ = command.parse_args(["versions", "--no-cache-dir", *wheel.pip_options, wheel.name])
    with command._build_session(options) as session:
        finder = command._build_package_finder(
            options=options,
            session=session,
            target_python=cmdoptions.make_target_python(options),
            ignore_requires_python=True,
        )
        try:
            links = [candidate.link for candidate in finder.find_all_candidates(wheel.name)]
        except (OSError, PipError) as error:
            raise WheelError(f"pip cannot read its package index: {error}") from error
        links = [link for link in links if link.filename == wheel.file]
        if not links:
            raise WheelError(
                f"pip finds no {wheel.file} in its package index\n"
                "hint: look at the network and at `python3 -m pip config list`; without a network, "
                f"put the file into {part.parent} yourself"
            )
        # An index may name the hash; one that names another than ours need not be asked.
        links.sort(key=lambda link: link.hash != wheel.sha256)
        idle, progress = 0, Progress(wheel.file.split("-cp311")[0].split("-py3")[0], wheel.size)
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _transfer(session, links[0].url_without_fragment, part, wheel.size, progress)
                break
            except (OSError, HTTPError) as error:
                idle = 0 if part.exists() and part.stat().st_size > before else idle + 1
                if idle == ATTEMPTS:
                    raise WheelError(f"downloading {wheel.file} failed: {error}\nhint: run again, it resumes") from error
                time.sleep(2**idle / 2)
            finally:
                progress.end()


def _transfer(session, url: str, part: Path, size: int, progress: Progress) -> None:
    """Append what is still lacking of `url` to `part`."""
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with session.get(url, headers=headers, stream=True) as reply:
        reply.raise_for_status()
        resumed = reply.status_code == 206
        with part.open("ab" if resumed else "wb") as file:
            done = have if resumed else 0
            progress.show(done)
            while block := reply.raw.read(CHUNK):
                file.write(block)
                done += len(block)
                progress.show(done)
    if done < size:
        raise OSError(f"the connection ended after {done} of {size} bytes")


def _through_pip_command(wheel: Wheel, part: Path) -> None:
    folder = part.with_name(part.name + ".pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    command += [*wheel.pip_options, f"{wheel.name}=={wheel.version}"]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0 or not (folder / wheel.file).is_file():
        raise WheelError(f"`{' '.join(command)}` did not bring {wheel.file}")
    (folder / wheel.file).replace(part)
    folder.rmdir()

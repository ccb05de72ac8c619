#!/bin/sh
# Names what a build of deptune lacks on this machine, each with the command that brings it.
# Silent when all is there. Exit code 1 when something is missing.
#   scripts/preflight.sh [--cuda]
set -u
cd "$(dirname "$0")/.." || exit 1

RUST_NEEDED=1.95
missing=0

# lack WHAT HINT: one missing thing.
lack() {
    missing=1
    printf 'missing: %s\n   hint: %s\n' "$1" "$2" >&2
}

# at_least VERSION MINIMUM, both as MAJOR.MINOR[…]
at_least() {
    printf '%s %s\n' "$1" "$2" | awk '{ split($1, a, "."); split($2, b, ".");
        exit !(a[1] + 0 > b[1] + 0 || (a[1] + 0 == b[1] + 0 && a[2] + 0 >= b[2] + 0)) }'
}

# packages DEBIAN FEDORA: the install command of this distribution.
packages() {
    family=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}")
    case " $family " in
        *\ debian\ * | *\ ubuntu\ *) echo "sudo apt-get install $1" ;;
        *\ fedora\ * | *\ rhel\ *) echo "sudo dnf install $2" ;;
        *) echo "install $1 (Debian) or $2 (Fedora), or your system's equal" ;;
    esac
}

# free_gb DIRECTORY: free gigabytes where DIRECTORY is or will be.
free_gb() {
    place=$1
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    df -Pk "$place" | awk 'NR == 2 { print int($4 / 1000000) }'
}

# room DIRECTORY GIGABYTES FOR
room() {
    if [ "$(free_gb "$1")" -lt "$2" ]; then
        lack "disk space: $3 needs $2 GB, $1 has $(free_gb "$1") GB free" "free some space${4:+, or $4}"
    fi
}

case "$(uname -s) $(uname -m)" in
    "Linux x86_64") ;;
    "Linux aarch64") echo "note: Linux on aarch64 should work but is not tested" >&2 ;;
    *) lack "Linux on x86_64 or aarch64 (this is $(uname -s) on $(uname -m))" "use such a machine or container" ;;
esac

glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{ print $2 }')
if [ -z "$glibc" ]; then
    lack "glibc (libtorch is not built for other C libraries)" "use a distribution with glibc, such as Debian"
elif ! at_least "$glibc" 2.28; then
    lack "glibc 2.28 or later (this is $glibc)" "use Debian 10, Fedora 29, RHEL 8 or later"
fi

if ! command -v cargo >/dev/null; then
    lack "cargo (Rust $RUST_NEEDED or later)" "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
else
    rust=$(cargo --version | awk '{ print $2 }')
    at_least "$rust" "$RUST_NEEDED" || lack "Rust $RUST_NEEDED or later (this is $rust)" "rustup update stable"
fi

command -v cc >/dev/null || lack "a C compiler (cc)" "$(packages build-essential gcc)"
command -v "${CXX:-c++}" >/dev/null || lack "a C++ compiler (${CXX:-c++})" "$(packages g++ gcc-c++)"

if ! command -v python3 >/dev/null; then
    lack "python3" "$(packages 'python3 python3-pip' 'python3 python3-pip')"
elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
    lack "Python 3.9 or later" "$(packages python3 python3)"
elif [ -z "${LIBTORCH:-}${LIBTORCH_USE_PYTORCH:-}" ] && [ ! -e .libtorch/deptune-stamp.json ]; then
    python3 -m pip --version >/dev/null 2>&1 || lack "pip for python3" "$(packages python3-pip python3-pip)"
    case "${XDG_CACHE_HOME:-}" in
        /*) cache=$XDG_CACHE_HOME ;;
        *) cache=$HOME/.cache ;;
    esac
    [ -d "$cache/deptune/wheels" ] || room "$cache" 1 "the download of libtorch" "set XDG_CACHE_HOME"
fi

target=${CARGO_TARGET_DIR:-target}
[ -d "$target" ] || room "$target" 6 "the build" "set CARGO_TARGET_DIR"

if [ "${1:-}" = "--cuda" ]; then
    [ -e .libtorch/lib/libtorch_cuda.so ] || room . 8 "libtorch with CUDA" ""
    driver=$(awk '/NVRM version/ { for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+\.[0-9.]+$/) { print $i; exit } }' \
        /proc/driver/nvidia/version 2>/dev/null)
    if [ -z "$driver" ]; then
        echo "note: no NVIDIA driver here; the CUDA libraries will be unused on this machine" >&2
    elif ! at_least "$driver" 580.0; then
        lack "an NVIDIA driver for CUDA 13, 580 or later (this is $driver)" "update the driver"
    fi
fi

exit "$missing"

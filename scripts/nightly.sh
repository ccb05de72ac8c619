#!/usr/bin/env bash
# What is too long for every change: `make nightly`.
# Runs each part even when an earlier one failed, and ends with the list of failures.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()

# part NAME COMMAND…
part() {
    local name=$1
    shift
    echo "=== $name: $*"
    "$@" || failed+=("$name")
}

part build cargo build --locked --workspace --bins --tests
part tests cargo test --locked --workspace --no-fail-fast
part long-tests cargo test --locked --workspace --no-fail-fast -- --ignored
# With other clients' times held to a second while somebody misbehaves.
part limits env DEPTUNE_TIMES=strict cargo test --locked --workspace --test limits
part stack env DEPTUNE_SEEDS=1000 cargo test --locked --workspace --test stack

# Simulated worlds; deliberate bugs that they must notice.
part worlds cargo run --locked --release -p deptune-tests --bin sim -- --seeds 1000 --small
# Those of full size, and large ones, two at a time.
sim=${CARGO_TARGET_DIR:-target}/release/sim
part full-worlds xargs -n 1 -P 2 "$sim" --seeds 5000 --first <<< "1 5001"
part large-worlds xargs -n 1 -P 2 "$sim" --large --seeds 1 --first <<< "$(seq 20)"
part bugs cargo run --locked --release -p deptune-tests --features mutations --bin sim -- --mutations

# Clients that others wrote, against the real server.
shopt -s nullglob
for script in tests/python/*.sh; do
    part "$script" bash "$script"
done

# Workers as jobs of a real Slurm, which the script starts for itself.
part slurm tests/slurm/run.sh target/debug

if cargo deny --version >/dev/null 2>&1; then
    part deny cargo deny --locked check licenses bans sources
    # The advisories come from a git repository that not every machine can reach.
    cargo deny --locked check advisories || echo "warning: advisories were found, or could not be fetched"
else
    echo "SKIPPED deny: cargo-deny is not installed (cargo install --locked cargo-deny)"
fi

if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "nightly: all parts passed"

#!/usr/bin/env bash
# Fuzzes every reader of outside bytes for a while and merges what was learnt into fuzz/corpus.
#   scripts/fuzz.sh [SECONDS per target] [TARGET…]
# Needs cargo-fuzz (cargo install --locked cargo-fuzz); works on stable Rust.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-3600}
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
    targets=(config weights tokenizer rows own_rows spec child checkpoint)
fi
cargo fuzz --version >/dev/null

failed=()
for target in "${targets[@]}"; do
    features=()
    [ "$target" != checkpoint ] || features=(--features trainer)
    found=fuzz/found/$target
    mkdir -p "$found" "fuzz/corpus/$target"
    echo "=== $target: $seconds s"
    # Memory is bounded far below a machine's, so that input which asks for more is a finding.
    cargo fuzz run --sanitizer none "${features[@]}" "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=10 \
        -max_len=16384 -print_final_stats=1 -verbosity=0 2>&1 |
        tee "fuzz/found/$target.log" | grep -E 'stat::|ERROR|panicked|SUMMARY' || true
    grep -q 'stat::number_of_executed_units' "fuzz/found/$target.log" || failed+=("$target")
    if grep -qE 'ERROR|panicked' "fuzz/found/$target.log"; then failed+=("$target"); fi
    # The smallest set of inputs with the same coverage.
    cargo fuzz run --sanitizer none "${features[@]}" "$target" -- -merge=1 \
        "fuzz/corpus/$target" "$found" >>"fuzz/found/$target.log" 2>&1 || failed+=("$target merge")
done
if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "fuzz: no finding in ${#targets[@]} targets"

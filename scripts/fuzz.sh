#!/usr/bin/env bash
# Fuzzes every reader of outside bytes for a while, merges what was learnt into fuzz/corpus and adds
# a line per target to fuzz/ledger.tsv.
#   scripts/fuzz.sh [SECONDS per target] [TARGET…]
#   scripts/fuzz.sh total                             sums of the ledger
# Needs cargo-fuzz (cargo install --locked cargo-fuzz); works on stable Rust.
set -euo pipefail
cd "$(dirname "$0")/.."
ledger=fuzz/ledger.tsv
if [ "${1:-}" = total ]; then
    awk -F '\t' 'NR > 1 { n[$2] += $3; cpu[$2] += $4; edges[$2] = $5; found[$2] += $6 }
        END { for (t in n) printf "| %s | %.1f M | %.0f | %d | %d |\n", t, n[t] / 1e6, cpu[t], edges[t], found[t] }' \
        "$ledger" | sort
    exit
fi
seconds=${1:-3600}
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
    targets=(config weights tokenizer rows own_rows spec child wire checkpoint)
fi
cargo fuzz --version >/dev/null

# Processor seconds of the program alone, without its build.
TIMEFORMAT=%U
failed=()
for target in "${targets[@]}"; do
    features=()
    if [ "$target" = checkpoint ]; then
        features=(--features trainer)
        export LD_LIBRARY_PATH="${LIBTORCH:-$PWD/.libtorch}/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
    found=fuzz/found/$target
    log=$found.log
    mkdir -p "$found" "fuzz/corpus/$target"
    echo "=== $target: $seconds s"
    cargo fuzz build --sanitizer none "${features[@]}" "$target"
    # Memory is bounded far below a machine's, so that input which asks for more is a finding.
    cpu=$({ time cargo fuzz run --sanitizer none "${features[@]}" "$target" "$found" \
        "fuzz/corpus/$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 \
        -malloc_limit_mb=512 -timeout=60 -max_len=16384 -print_final_stats=1 >"$log" 2>&1 || true; } 2>&1)
    grep -aE 'stat::|ERROR: libFuzzer|SUMMARY' "$log" || true
    executions=$(grep -aoP 'number_of_executed_units: *\K[0-9]+' "$log" || echo 0)
    edges=$(grep -aoP 'cov: \K[0-9]+' "$log" | tail -n 1 || true)
    if ((executions == 0)); then
        tail -n 20 "$log"
        failed+=("$target did not run")
        continue
    fi
    findings=0
    if grep -aq 'ERROR: libFuzzer' "$log"; then
        findings=1
        failed+=("$target")
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%F)" "$target" "$executions" "$cpu" "${edges:-0}" \
        "$findings" >>"$ledger"
    # As few inputs as reach what the corpus does not.
    cargo fuzz run --sanitizer none "${features[@]}" "$target" -- -set_cover_merge=1 -use_counters=0 \
        "fuzz/corpus/$target" "$found" >>"$log" 2>&1 || failed+=("$target merge")
done
if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "fuzz: no finding in ${#targets[@]} targets"

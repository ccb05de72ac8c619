#!/usr/bin/env bash
# The same thirty trials in fp32 and in bf16: final accuracies on the dev rows, paired by seed, and the 90 %
# interval of their mean difference.
#   DEPTUNE_DATA=DIR benches/sst2/precision.sh WORK_DIR
# DEPTUNE_DATA holds sst2/train.tsv and sst2/dev.tsv; WORK_DIR is made and kept.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=${1:?a folder to work in}
: "${DEPTUNE_DATA:?set it to a folder that holds sst2/train.tsv and sst2/dev.tsv}"
deptune=${DEPTUNE_BIN_DIR:-target/release}/deptune

mkdir -p "$work/spec"
ln -sfn "$PWD/examples/quickstart/model" "$work/spec/model"
ln -sfn "$(cd "$DEPTUNE_DATA" && pwd)/sst2" "$work/spec/sst2"
grep -m1 'model name' /proc/cpuinfo
grep -m1 -ow -e amx_bf16 -e avx512_bf16 -e avx512f -e avx2 /proc/cpuinfo
git rev-parse --short HEAD
for precision in fp32 bf16; do
    sed "s/PRECISION/$precision/" benches/sst2/precision.toml >"$work/spec/$precision.toml"
    time "$deptune" up "$work/spec/$precision.toml" --data-dir "$work/data" --slots 2 --threads 1 \
        >/dev/null 2>"$work/$precision.log"
done
python3 - "$work/data/deptune.db" <<'PYTHON'
import sqlite3, statistics, sys
rows = sqlite3.connect(sys.argv[1]).execute("""
    select fp32.seed, fp32.test_metric, bf16.test_metric
    from trial_results fp32 join trial_results bf16 using (seed)
    where fp32.sweep_name = 'sst2-fp32' and bf16.sweep_name = 'sst2-bf16'
    order by seed""").fetchall()
print("| seed | fp32 | bf16 | bf16 - fp32, points |\n|---|---|---|---|")
differences = []
for seed, fp32, bf16 in rows:
    differences.append(bf16 - fp32)
    print("| {} | {:.2f} | {:.2f} | {:+.2f} |".format(seed, fp32, bf16, bf16 - fp32))
n, mean, spread = len(differences), statistics.mean(differences), statistics.stdev(differences)
# Student t at 95 %, from the normal quantile (Abramowitz and Stegun 26.7.5, two terms).
z, df = 1.6449, n - 1
t = z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
half = t * spread / n ** 0.5
print("mean difference {:+.2f}, spread {:.2f}, 90 % interval {:+.2f} to {:+.2f}".format(mean, spread, mean - half, mean + half))
print("seeds for a half-width of 1 point: about {:.0f}".format(max(2, (1.645 * spread) ** 2)))
PYTHON

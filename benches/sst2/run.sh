#!/usr/bin/env bash
# Runs one of the sweeps here through a coordinator and a worker, and prints its leaderboard.
#   DEPTUNE_DATA=DIR benches/sst2/run.sh dept|pt WORK_DIR [MAX_PACK]
# DEPTUNE_DATA holds sst2/train.tsv and sst2/dev.tsv; WORK_DIR is made and kept. MAX_PACK is the most
# trials that train together; 1: each by itself.
set -euo pipefail
cd "$(dirname "$0")/../.."

name=${1:?dept or pt}
work=${2:?a folder to work in}
max_pack=${3:-8}
: "${DEPTUNE_DATA:?set it to a folder that holds sst2/train.tsv and sst2/dev.tsv}"
programs=${DEPTUNE_BIN_DIR:-target/release}

mkdir -p "$work/spec"
cp "benches/sst2/$name.toml" "$work/spec/sweep.toml"
ln -sfn "$PWD/examples/quickstart/model" "$work/spec/model"
ln -sfn "$(cd "$DEPTUNE_DATA" && pwd)/sst2" "$work/spec/sst2"

grep -m1 'model name' /proc/cpuinfo
grep -m1 -ow -e amx_bf16 -e avx512_bf16 -e avx512f -e avx2 /proc/cpuinfo
git rev-parse --short HEAD

export DEPTUNE_HOME="$work/home"
"$programs/deptune" serve --listen 127.0.0.1:0 2>"$work/serve.log" &
serve=$!
worker=
stop() { kill $worker $serve 2>/dev/null || true; wait; }
trap stop EXIT
for _ in $(seq 100); do [ -e "$DEPTUNE_HOME/coordinator.json" ] && break; sleep 0.1; done
"$programs/deptune" worker --model-root "$PWD/examples/quickstart" --state-dir "$work/worker" \
    --max-pack "$max_pack" 2>"$work/worker.log" &
worker=$!

time "$programs/deptune" submit "$work/spec/sweep.toml" --wait
"$programs/deptune" best "sst2-$name"
"$programs/deptune" sql "select pack_members, count(*) as attempts, round(sum(seconds)) as seconds
    from attempts_history group by pack_members"

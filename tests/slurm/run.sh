#!/usr/bin/env bash
# docs/slurm.md, followed on a real one-node Slurm that this script starts for itself: run.sh [BIN]
#
# BIN is the folder with deptune and deptune-trainer (target/debug). Workers are jobs of
# deploy/slurm/worker.sbatch. One is cancelled in mid-trial, one reaches a walltime shorter than a
# trial, one is warned by a signal, one is killed like a node that dies, and an array of workers
# finishes the sweep. In the end every trial has one outcome, nothing that was handed back counts
# as a failure, and every attempt went on from the last checkpoint. Takes about six minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=$(realpath "${1:-$root/target/debug}")
export PATH=$bin:$PATH:/usr/sbin:/sbin

for program in sbatch squeue scancel scontrol slurmctld slurmd munged; do
    if ! command -v "$program" >/dev/null; then
        echo "SKIPPED tests/slurm: $program is not installed (apt-get install slurm-wlm munge)"
        exit 0
    fi
done
for program in deptune deptune-trainer; do
    [[ -x $bin/$program ]] || { echo "there is no $program in $bin; build it first" >&2; exit 1; }
done

KILL_WAIT=30 # Slurm's own default
TTL=10
EVAL_EVERY=25
TRIALS=2
cpus=$(($(nproc) < 2 ? 1 : 2))
work=$(mktemp -d "${TMPDIR:-/tmp}/deptune-slurm.XXXXXX")
serve=

finish() {
    local code=$?
    trap - EXIT INT TERM
    [[ -d $work/slurm ]] && "$here/stop.sh" "$work/slurm"
    if [[ $serve ]] && kill -TERM "$serve" 2>/dev/null; then wait "$serve" || true; fi
    if ((code == 0)); then rm -rf "$work"; else echo "FAILED; everything is kept in $work" >&2; fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n[%s] %s\n' "$(date -u +%T)" "$*"; }
die() { echo "run.sh: $*" >&2; exit 1; }

# await SECONDS WHAT COMMAND…: until the command succeeds.
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < end)) || die "waited in vain: $what"
        kill -0 "$serve" 2>/dev/null || die "the coordinator has ended, see $work/serve.log"
        sleep 0.5
    done
}

# A trainer works in a directory below its worker's state, so this finds one that outlived it.
no_trainer_is_left() {
    local cwd
    for cwd in /proc/[0-9]*/cwd; do
        [[ $(readlink "$cwd" 2>/dev/null) != "$DEPTUNE_HOME"/* ]] || return 1
    done
}

check() { python3 "$here/check.py" "$DEPTUNE_HOME/deptune.db" "$@"; }
queue_is_empty() { [[ -z $(squeue --noheader) ]]; }
field() { scontrol --oneliner show job "$1" | grep -o " $2=[^ ]*" | cut -d= -f2; }

# job OPTIONS… [-- WORKER OPTIONS…]: submits a worker; its number is in $job.
job() {
    local options=()
    while (($#)) && [[ $1 != -- ]]; do options+=("$1") && shift; done
    (($#)) && shift
    job=$(sbatch --parsable --chdir="$work" --cpus-per-task="$cpus" "${options[@]}" \
        "$root/deploy/slurm/worker.sbatch" "$@")
    echo "job $job: sbatch --cpus-per-task=$cpus ${options[*]} worker.sbatch $*"
}

# ended STATE: the job has left the queue, and ended like this.
ended() {
    await 150 "job $job leaves the queue" queue_is_empty
    local state
    state=$(field "$job" JobState)
    echo "job $job: $state, exit code $(field "$job" ExitCode)," \
        "$(field "$job" RunTime) of $(field "$job" TimeLimit)"
    [[ $state == "$1" ]] || die "job $job ended as $state instead of $1: $work/deptune-worker-$job.log"
}

"$here/start.sh" "$work/slurm" "$KILL_WAIT"
source "$work/slurm/env"

say "the coordinator"
export DEPTUNE_HOME=$work/home
deptune serve --listen 127.0.0.1:0 --lease-ttl "${TTL}s" >"$work/serve.log" 2>&1 &
serve=$!
await 30 "the coordinator's address file" test -e "$DEPTUNE_HOME/coordinator.json"

# spec NAME STEPS SEEDS: one configuration of the quickstart, for that long.
spec() {
    local dir=$work/$1
    mkdir "$dir"
    cp -r "$root/examples/quickstart/"{data,model} "$dir"
    sed -E -e "s/^name = \"quickstart\"/name = \"$1\"/" -e "s/^steps = .*/steps = $2/" \
        -e "s/^eval_every = .*/eval_every = $EVAL_EVERY/" -e 's/^prompt_lr = .*/prompt_lr = [0.3]/' \
        -e 's/^lowrank_lr = .*/lowrank_lr = [5e-4]/' -e 's/^prompt_length = .*/prompt_length = [8]/' \
        -e "s/^seeds = .*/seeds = $3/" "$root/examples/quickstart/sweep.toml" >"$dir/sweep.toml"
}

say "how fast is this node? a short trial"
spec pace 50 "[42]"
job --time=10
deptune submit "$work/pace/sweep.toml" --upload-model --wait
# Long enough for all that is going to happen to it.
steps=$(check steps-in pace 150)
echo "trials of $steps steps, about 150 s each"

say "scancel in mid-trial"
spec sweep "$steps" "[42, 43]"
deptune submit "$work/sweep/sweep.toml" --upload-model
await 120 "every slot is in mid-trial" check midway sweep
check show sweep
told=$SECONDS
scancel "$job"
ended CANCELLED
echo "the worker was gone after $((SECONDS - told)) s of $KILL_WAIT"
((SECONDS - told < KILL_WAIT)) || die "the worker did not leave within KillWait"
check handed-back sweep 1

say "a walltime of one minute: the worker itself leaves in time"
job --time=1 --signal=B:CONT@1 -- --walltime-margin 15s
ended COMPLETED
check handed-back sweep 2

say "the signal before the end of the walltime, to a worker that does not know its walltime"
job --time=1 --signal=B:TERM@10 -- --walltime 1h
ended COMPLETED
check handed-back sweep 3

say "a node that dies: SIGKILL"
job --time=10
await 120 "every slot is in mid-trial" check midway sweep
scancel --signal=KILL --batch "$job"
await 60 "the job is gone" queue_is_empty
await 10 "its trainers are gone" no_trainer_is_left
await $((TTL + 30)) "the leases expire" check expired sweep

say "an array of workers finishes"
cpus=1
job --time=30 --array=1-2
await 900 "the sweep is finished" check finished sweep
scancel --name=deptune-worker
await 60 "the queue is empty" queue_is_empty
check slots "slurm-$job" cpu
check show sweep
check verify sweep "$TRIALS" "$EVAL_EVERY" 1
deptune best sweep

say "GPUs: only those of the job"
mkdir "$work/nvidia"
cat >"$work/nvidia/nvidia-smi" <<'SMI'
#!/bin/sh
echo "GPU 0: Some GPU (UUID: GPU-0000)"
echo "GPU 1: Some GPU (UUID: GPU-1111)"
SMI
# A trainer that says it can use what the job was given, as one with CUDA libraries does.
cat >"$work/nvidia/deptune-trainer" <<'TRAINER'
#!/bin/sh
echo '{"cuda": 2}'
TRAINER
chmod +x "$work/nvidia/nvidia-smi" "$work/nvidia/deptune-trainer"
PATH=$work/nvidia:$PATH

# computes_on WHAT OPTIONS…: a job with these options has one slot, on that.
computes_on() {
    local what=$1
    shift
    job --time=10 "$@" -- --trainer "$work/nvidia/deptune-trainer"
    await 60 "worker slurm-$job is here" check slots "slurm-$job" "$what"
}

computes_on GPU-0000 --gres=gpu:1
# The first job keeps its GPU while the second one asks, if there is a CPU for it.
(($(nproc) < 2)) || computes_on GPU-1111 --gres=gpu:1
scancel --name=deptune-worker
await 60 "the queue is empty" queue_is_empty
computes_on cpu
scancel --name=deptune-worker
await 60 "the queue is empty" queue_is_empty

echo
echo "tests/slurm: passed"

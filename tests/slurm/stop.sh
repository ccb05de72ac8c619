#!/usr/bin/env bash
# Ends the Slurm that start.sh DIR started: its jobs first, then its daemons. DIR stays.
set -euo pipefail

dir=$(realpath "${1:?usage: stop.sh DIR}")
source "$dir/env"

# The supervisors of jobs outlive slurmd, so end the jobs while there is somebody to tell.
timeout 10 scancel --state=PENDING --user="$(id -un)" || true
timeout 10 scancel --user="$(id -un)" || true
for _ in {1..60}; do
    [[ $(timeout 10 squeue -h 2>/dev/null | wc -l) == 0 ]] && break
    sleep 1
done

for name in slurmd slurmctld munged; do
    file=$dir/$name.started
    [[ -f $file ]] || continue
    pid=$(<"$file")
    # A number that is somebody else's by now stays untouched.
    if [[ $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) == *"$dir"* ]]; then
        kill "$pid"
        for _ in {1..50}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$file"
done

#!/usr/bin/env bash
# A one-node Slurm of our own, for tests: start.sh DIR [KILL_WAIT_SECONDS]
#
# Runs munged, slurmctld and slurmd as the calling user on loopback, with all keys, ports, state
# and logs below DIR (which must not exist yet), beside whatever else the machine runs. The node
# claims two GPUs, which Slurm hands out without looking at them. Afterwards `source DIR/env` makes
# sbatch, squeue and scancel talk to it. stop.sh DIR ends it.
set -euo pipefail

dir=$(realpath -m "${1:?usage: start.sh DIR [KILL_WAIT_SECONDS]}")
kill_wait=${2:-30}
export PATH=$PATH:/usr/sbin:/sbin
mkdir -m 700 "$dir"
mkdir -m 700 "$dir"/{munge,state,spool,log}

# Three ports that nobody listens on.
read -r controller_port node_port step_port < <(python3 - <<'PY'
import socket
sockets = [socket.socket() for _ in range(3)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PY
)

user=$(id -un)
cat >"$dir/slurm.conf" <<CONF
ClusterName=deptune-test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SrunPortRange=$step_port-$((step_port + 20))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0
MpiDefault=none
ReturnToService=2
KillWait=$kill_wait
OverTimeLimit=0
GresTypes=gpu
NodeName=node1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes=node1 Default=YES MaxTime=60 State=UP
CONF

# Any devices will do for handing them out.
echo "NodeName=node1 Name=gpu File=/dev/null,/dev/zero" >"$dir/gres.conf"

cat >"$dir/env" <<ENV
export SLURM_CONF='$dir/slurm.conf'
export PATH="\$PATH:/usr/sbin"
ENV

head -c 1024 /dev/urandom >"$dir/munge/key"
chmod 400 "$dir/munge/key"

# daemon NAME COMMAND…: in the background, its pid in DIR/NAME.started.
daemon() {
    local name=$1
    shift
    setsid "$@" >"$dir/log/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/$name.started"
}

# await WHAT COMMAND…: until it succeeds, at most 30 s.
await() {
    local what=$1 try
    shift
    for ((try = 0; try < 150; try++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "start.sh: no $what after 30 s; the logs are in $dir/log" >&2
    tail -n 5 "$dir"/log/* >&2
    exit 1
}

# The group of /tmp is none of munge's business here: --force.
daemon munged munged --foreground --force --key-file="$dir/munge/key" \
    --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" --log-file="$dir/log/munged.log" \
    --seed-file="$dir/munge/seed" --num-threads=2
await munge munge --socket "$dir/munge/socket" --no-input

export SLURM_CONF=$dir/slurm.conf
daemon slurmctld slurmctld -D -c -f "$dir/slurm.conf"
await controller scontrol ping
daemon slurmd slurmd -D -c -N node1 -f "$dir/slurm.conf"
node_is_idle() { [[ $(sinfo -h -o %T) == idle ]]; }
await node node_is_idle
echo "Slurm is up: source $dir/env"

#!/usr/bin/env bash
# The quickstart sweep with the programs in the folder given; called by `make demo`.
# After Ctrl-C it goes on where it was; run again after its end, it runs a new sweep.
set -euo pipefail
cd "$(dirname "$0")/.."

deptune=$1/deptune
data=.deptune/quickstart

"$deptune" up examples/quickstart/sweep.toml --data-dir "$data"
"$deptune" adapter get quickstart --best --output "$data/best" --data-dir "$data" 2>/dev/null >&2

cat >&2 <<END

Try next:

  $deptune sql --data-dir $data \\
      "select prompt_length, rank, lowrank_lr, round(avg(metric), 2) as accuracy, count(*) as trials
       from trial_results group by 1, 2, 3 order by accuracy desc"

  $deptune curves --data-dir $data quickstart

  $deptune predict --adapter $data/best --model examples/quickstart/model \\
      "the soup was cold and the waiter was rude"     # or any sentence of yours
END

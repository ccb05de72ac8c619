//! Trials of every method, alike in every store; and the views that people read.

use deptune_coordinator::store::{QueryError, SqlValue, Store};
use deptune_sweep::id::SweepId;
use deptune_sweep::outcome::Outcome;
use deptune_sweep::record::{Phase, TrialRecord};
use deptune_sweep::scheduler::Write;
use deptune_sweep::spec::Method;

use crate::bench::Bench;
use crate::sample::{end, leased, submission, success, sweep, trial_id, worker};

const PROMPT: &str = "prompt_lr = [0.3, 0.4]
lowrank_lr = [1e-4]
prompt_length = [4]
rank = [3]
";

/// The sample's first trial under another method, from its lease to its success.
fn writes(index: u64, kind: &str, space: &str) -> Vec<Write> {
    let mut changed = submission("");
    changed.spec = changed.spec.replace("\"dept\"", kind).replace(PROMPT, space);
    let spec = changed.parse().unwrap();
    let id = trial_id(1, index);
    let record = TrialRecord { id, ..leased(id, 1) };
    assert!(matches!(record.phase, Phase::Leased(_)));
    let settings = Box::new(spec.settings(0).unwrap());
    let mut writes = vec![Write::NewTrial { configuration: index, settings, record }];
    writes.extend(crate::sample::first_lease(id).into_iter().skip(1));
    // The better the lower the index, so that the places are known.
    #[allow(clippy::cast_precision_loss)]
    writes.extend(end(success(id, 1, 90.0 - index as f64)));
    assert!(
        matches!(writes.last(), Some(Write::Outcome(one)) if one.outcome == Outcome::Succeeded)
    );
    writes
}

pub(crate) fn all() -> Vec<Write> {
    let mut all = vec![worker(1), sweep(1)];
    all.extend(writes(0, "\"dept\"", &format!("source = \"mnli\"\n{PROMPT}")));
    all.extend(writes(1, "\"pt\"", "prompt_lr = 0.5\nprompt_length = 10\n"));
    all.extend(writes(2, "\"lora\"", "learning_rate = 2e-4\nrank = 8\n"));
    all.extend(writes(3, "\"full\"", "learning_rate = 3e-5\n"));
    all
}

#[tokio::test]
async fn every_method_has_its_rates() {
    let mut benches = vec![Bench::memory(), Bench::sqlite()];
    benches.extend(Bench::postgres());
    let id = trial_id(1, 0).sweep;
    let mut stores = Vec::new();
    for bench in &benches {
        let store = bench.open().await;
        store.commit(&all()).await.unwrap();
        stores.push(store);
    }
    let memory = stores.remove(0);
    for store in stores {
        as_in_memory(&*memory, &*store, id).await;
    }
}

async fn as_in_memory(memory: &dyn Store, store: &dyn Store, id: SweepId) {
    let rows = store.trials(id, None, 0).await.unwrap();
    assert_eq!(rows, memory.trials(id, None, 0).await.unwrap());
    let rates: Vec<_> = rows
        .items
        .iter()
        .map(|row| (row.method, row.prompt_lr, row.lowrank_lr, row.learning_rate))
        .collect();
    assert_eq!(
        rates,
        [
            (Method::Dept, Some(0.3), Some(1e-4), None),
            (Method::Pt, Some(0.5), None, None),
            (Method::Lora, None, None, Some(2e-4)),
            (Method::Full, None, None, Some(3e-5)),
        ]
    );
    assert_eq!(rows.items[0].source.as_deref(), Some("mnli"));
    let board = store.leaderboard(id, 0).await.unwrap();
    let other = memory.leaderboard(id, 0).await.unwrap();
    let key = |row: &deptune_coordinator::store::LeaderboardRow| {
        (row.place, row.method, row.prompt_lr, row.learning_rate, row.source.clone())
    };
    assert_eq!(
        board.iter().map(key).collect::<Vec<_>>(),
        other.iter().map(key).collect::<Vec<_>>()
    );
    assert_eq!(board.len(), 4);
    assert_eq!((board[2].prompt_lr, board[2].learning_rate), (None, Some(2e-4)));
}

pub(crate) async fn the_views_say_what_a_method_has(bench: Bench) {
    let store = bench.open().await;
    if matches!(bench, Bench::Memory(_)) {
        let refused = store.query("select 1", 1).await;
        return assert!(matches!(refused, Err(QueryError::NoSql)));
    }
    store.commit(&all()).await.unwrap();
    let sql = "select method, prompt_lr, learning_rate, source, lora_alpha, stopped_early
               from trial_results order by trial_index";
    let answer = store.query(sql, 100).await.unwrap();
    let text = |text: &str| SqlValue::Text(text.to_owned());
    let no = SqlValue::Integer(0);
    assert_eq!(
        answer.rows,
        [
            vec![
                text("dept"),
                SqlValue::Real(0.3),
                SqlValue::Null,
                text("mnli"),
                SqlValue::Null,
                no.clone()
            ],
            vec![
                text("pt"),
                SqlValue::Real(0.5),
                SqlValue::Null,
                SqlValue::Null,
                SqlValue::Null,
                no.clone()
            ],
            vec![
                text("lora"),
                SqlValue::Null,
                SqlValue::Real(2e-4),
                SqlValue::Null,
                SqlValue::Real(8.0),
                no.clone()
            ],
            vec![
                text("full"),
                SqlValue::Null,
                SqlValue::Real(3e-5),
                SqlValue::Null,
                SqlValue::Null,
                no
            ],
        ]
    );
    let sql = "select count(*) from class_reports";
    assert_eq!(store.query(sql, 1).await.unwrap().rows, [vec![SqlValue::Integer(0)]]);
}

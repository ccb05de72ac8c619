//! What every store must do, run over each of them; and what those in SQLite and in
//! Postgres must do besides.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "helpers of tests are tests as well"
)]

mod bench;
mod commits;
mod methods;
mod parity;
#[path = "../../../tests/src/postgres.rs"]
mod postgres;
mod postgres_only;
mod reads;
mod results;
mod sample;
mod sqlite;
mod upgrade;

/// Makes a test of each function for each store.
macro_rules! over_each_store {
    ($($module:ident :: $test:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$module::$test(super::bench::Bench::memory()).await;
            })+
        }
        mod in_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$module::$test(super::bench::Bench::sqlite()).await;
            })+
        }
        mod in_postgres {
            $(#[tokio::test]
            async fn $test() {
                let Some(bench) = super::bench::Bench::postgres() else { return };
                super::$module::$test(bench).await;
            })+
        }
    };
}

over_each_store!(
    commits::what_was_written_is_loaded,
    commits::a_stale_epoch_is_refused,
    commits::a_trial_has_one_outcome_for_ever,
    commits::an_ended_trial_needs_its_outcome,
    commits::an_earlier_coordinator_is_refused,
    commits::a_commit_is_all_or_nothing,
    commits::rows_that_contradict_the_store_are_refused,
    commits::a_sweep_of_many_trials_is_deleted_whole,
    reads::sweeps_are_found_and_listed,
    reads::pages_neither_repeat_nor_hide,
    reads::an_evaluation_again_replaces_the_first,
    reads::numbers_that_are_not_finite_survive,
    reads::attempts_tell_their_story,
    reads::artifacts_in_use_are_known,
    results::progress_counts_every_trial_once,
    results::the_leaderboard_holds_the_right_numbers,
    results::the_leaderboard_can_minimise,
    results::what_a_trial_took_of_its_device_is_in_its_row,
    methods::the_views_say_what_a_method_has,
);

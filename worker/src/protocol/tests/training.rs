//! Trials from their first step to their acknowledged report.

use super::*;

fn stale() -> Ack {
    Ack::Stale { current: Epoch(2), reason: StopReason::Superseded }
}

#[test]
fn a_result_is_kept_saved_uploaded_reported_and_then_forgotten() {
    let mut play = Play::busy(1);
    play.child(0, 1, ChildNews::Eval { trial: trial(0), evaluation: evaluation(100) });
    play.done(0, 1, 0);
    play.none("exchange before the upload", is_exchange);
    assert_eq!(play.uploaded(), FileKind::Adapter);
    let (id, reports, _) = play.exchange();
    let [report] = reports.as_slice() else { panic!() };
    assert!(matches!(report.end, ReportEnd::Succeeded { .. }));
    assert_eq!((report.last_step, report.evaluations.len()), (100, 1));
    play.none("forget before the answer", |a| matches!(a, Action::Forget(_)));
    play.answer_exchange(id, vec![Ack::Accepted], vec![]);
    play.one("forget", |a| (*a == Action::Forget(lease(0))).then_some(()));
    let saved = play.one("leases to write down", |a| match a {
        Action::SaveLeases { leases, .. } => Some(leases.clone()),
        _ => None,
    });
    assert!(saved.is_empty());
    // The slot is free when the child has gone, not before.
    play.pass(2_000);
    play.none("exchange", is_exchange);
    play.exit(0, 1);
    assert_eq!(play.exchange().2, [0]);
}

#[test]
fn refused_reports_are_dropped() {
    for ack in [stale(), Ack::Rejected { reason: "no such trial".to_owned() }] {
        let mut play = Play::busy(1);
        play.done(0, 1, 0);
        play.uploaded();
        let (id, ..) = play.exchange();
        play.answer_exchange(id, vec![ack], vec![]);
        play.one("forget", |a| (*a == Action::Forget(lease(0))).then_some(()));
    }
}

#[test]
fn a_crash_is_reported_after_the_last_checkpoint() {
    let mut play = Play::busy(1);
    play.checkpoint(0, 1, 0, 10);
    play.child(0, 1, ChildNews::Eval { trial: trial(0), evaluation: evaluation(20) });
    assert_eq!(play.progress(), [(lease(0), vec![20], None)]);
    let message = "the trainer was killed by signal 6 (SIGABRT)".to_owned();
    play.child(0, 1, ChildNews::Exited { class: FailureClass::Crashed, message: message.clone() });
    let report = play.save();
    assert_eq!(report.end, ReportEnd::Failed { class: FailureClass::Crashed, message });
    // The slot asks for other work meanwhile.
    let (_, reports, free) = play.exchange();
    assert_eq!((reports.len(), free), (0, vec![0]));
    play.none("exchange", is_exchange);
    assert_eq!(play.uploaded(), FileKind::Checkpoint);
    play.none("exchange", is_exchange);
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    assert_eq!(play.progress(), [(lease(0), vec![], Some(10))]);
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    let (_, reports, _) = play.exchange();
    assert_eq!(reports.len(), 1);
    // Its evaluation was recorded before.
    assert!(reports[0].evaluations.is_empty());
}

#[test]
fn a_failure_that_is_not_retried_needs_no_checkpoint() {
    let mut play = Play::busy(1);
    play.checkpoint(0, 1, 0, 10);
    let (class, message) = (FailureClass::Diverged, "not finite".to_owned());
    play.child(0, 1, ChildNews::Failed { trial: trial(0), class, message });
    play.save();
    assert_eq!(play.exchange().1.len(), 1);
}

#[test]
fn newer_checkpoints_supersede_older_ones_but_do_not_overtake_them() {
    let mut play = Play::busy(1);
    play.checkpoint(0, 1, 0, 10);
    let first = play.upload();
    play.checkpoint(0, 1, 0, 20);
    play.none("second upload", |a| matches!(a, Action::Call(Call::Upload { .. })));
    play.checkpoint(0, 1, 0, 30);
    let forgotten = |a: &Action| match a {
        Action::ForgetCheckpoint { step, .. } => Some(*step),
        _ => None,
    };
    assert_eq!(play.one("superseded checkpoint", forgotten), 20);
    let (lease_, file, hash) = (first.0, first.1, first.2.hash);
    play.answer(Answer::Uploaded { lease: lease_, file, hash });
    assert_eq!(play.progress(), [(lease(0), vec![], Some(10))]);
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    assert_eq!(play.one("delivered checkpoint", forgotten), 10);
    assert_eq!(play.upload().2.step, 30);
}

#[test]
fn a_checkpoint_is_kept_with_the_evaluations_up_to_it() {
    let mut play = Play::busy(1);
    for step in [10, 20] {
        play.child(0, 1, ChildNews::Eval { trial: trial(0), evaluation: evaluation(step) });
    }
    let path = PathBuf::from("c");
    play.child(0, 1, ChildNews::Checkpoint { trial: trial(0), step: 10, path });
    let steps: Vec<u64> = play.one("checkpoint to keep", |a| match a {
        Action::KeepCheckpoint { evaluations, .. } => {
            Some(evaluations.iter().map(|e| e.step).collect())
        }
        _ => None,
    });
    assert_eq!(steps, [10]);
}

#[test]
fn the_watchdog_ends_a_child_that_gets_nowhere() {
    let mut play = Play::busy(1);
    let progress = |step| ChildNews::Progress {
        trial: trial(0),
        step,
        loss: Number::from(1.0),
        steps_per_second: 1.0,
    };
    play.pass(9 * MINUTE);
    play.child(0, 1, progress(1));
    // Words without a step are no sign of life.
    for _ in 0..9 {
        play.pass(MINUTE);
        play.child(0, 1, progress(1));
        play.child(0, 1, ChildNews::Eval { trial: trial(0), evaluation: evaluation(0) });
    }
    play.none("stop", |a| matches!(a, Action::Stop { .. }));
    play.pass(MINUTE);
    play.child(0, 1, progress(1));
    play.pass(9 * MINUTE);
    assert_eq!(play.stopped(), (0, 1, StopHow::End));
    play.exit(0, 1);
    let ReportEnd::Failed { class, message } = play.save().end else { panic!() };
    assert_eq!(class, FailureClass::Timeout);
    assert!(message.contains("600 s"), "{message}");
}

#[test]
fn a_child_that_stays_after_its_last_trial_is_ended() {
    let mut play = Play::busy(1);
    play.done(0, 1, 0);
    play.pass(9_000);
    play.none("stop", |a| matches!(a, Action::Stop { .. }));
    play.pass(1_000);
    assert_eq!(play.stopped(), (0, 1, StopHow::End));
}

#[test]
fn a_superseded_trial_is_stopped_without_a_report() {
    let mut play = Play::busy(1);
    play.pass(10_000);
    play.heartbeat();
    let reason = StopReason::Superseded;
    let stops = vec![Stop { lease: lease(0), reason }];
    play.answer(Answer::HeartbeatHeard { stops, drain: false });
    assert_eq!(play.stopped(), (0, 1, StopHow::End));
    play.one("forget", |a| (*a == Action::Forget(lease(0))).then_some(()));
    // A checkpoint that was being kept at that moment is forgotten, too.
    let kept = Ok(Kept { step: 1, hash: hash(1) });
    play.event(Event::Kept { lease: lease(0), file: FileKind::Checkpoint, kept });
    play.one("forget", |a| (*a == Action::Forget(lease(0))).then_some(()));
    play.exit(0, 1);
    play.none("report", |a| matches!(a, Action::SaveReport(_)));
    assert_eq!(play.exchange().2, [0]);
}

#[test]
fn files_that_cannot_be_fetched_now_are_fetched_later() {
    let mut play = Play::new(1);
    play.register();
    let (id, ..) = play.exchange();
    play.answer_exchange(id, vec![], vec![assignment(0, 0)]);
    let run = play.started(0);
    play.child(0, run, ChildNews::NotReady { message: "away".to_owned() });
    play.none("start", |a| matches!(a, Action::Start { .. }));
    play.pass(1_000);
    assert_eq!(play.started(0), run);
    let (class, message) = (FailureClass::UserError, "no model".to_owned());
    play.child(0, run, ChildNews::CannotRun { class, message: message.clone() });
    assert_eq!(play.save().end, ReportEnd::Failed { class, message });
    assert_eq!(play.exchange().2, [0]);
}

#[test]
fn news_of_an_earlier_run_are_ignored() {
    let mut play = Play::busy(1);
    play.child(
        0,
        77,
        ChildNews::Failed { trial: trial(0), class: FailureClass::Data, message: String::new() },
    );
    play.exit(0, 77);
    play.none("report", |a| matches!(a, Action::SaveReport(_)));
}

#[test]
fn a_file_that_the_coordinator_lost_is_uploaded_again() {
    let mut play = Play::busy(1);
    play.done(0, 1, 0);
    play.uploaded();
    let (id, ..) = play.exchange();
    play.fail(CallKind::Exchange(id), CallError::MissingFile);
    play.pass(1_000);
    assert_eq!(play.uploaded(), FileKind::Adapter);
    play.exchange();
}

#[test]
fn a_disk_that_refuses_costs_the_trial_or_nothing() {
    let mut play = Play::busy(2);
    let path = PathBuf::from("c");
    play.child(0, 1, ChildNews::Checkpoint { trial: trial(0), step: 10, path });
    let kept = Err("no space left on device".to_owned());
    play.event(Event::Kept { lease: lease(0), file: FileKind::Checkpoint, kept: kept.clone() });
    play.none("report", |a| matches!(a, Action::SaveReport(_)));
    let adapter = PathBuf::from("adapter");
    play.child(1, 2, ChildNews::Done { trial: trial(1), result: result(), adapter });
    play.event(Event::Kept { lease: lease(1), file: FileKind::Adapter, kept });
    let ReportEnd::Failed { class, message } = play.save().end else { panic!() };
    assert_eq!(class, FailureClass::Infra);
    assert!(message.contains("no space left"), "{message}");
}

#[test]
fn one_bad_report_does_not_hold_up_the_others() {
    let mut play = Play::busy(3);
    for index in [0, 1, 2] {
        let slot = u32::try_from(index).unwrap();
        let (class, message) = (FailureClass::Data, "bad row".to_owned());
        let news = ChildNews::Failed { trial: trial(index), class, message };
        play.child(slot, index + 1, news);
    }
    // All are saved before any goes.
    let saved: Vec<_> = (0..3)
        .map(|_| {
            play.one("report to save", |a| match a {
                Action::SaveReport(report) => Some(report.lease),
                _ => None,
            })
        })
        .collect();
    for lease in saved {
        play.event(Event::ReportSaved { lease, durable: true });
    }
    let mut delivered = BTreeMap::new();
    for _ in 0..8 {
        let Some(at) = play.due.iter().position(is_exchange) else { break };
        let Action::Call(Call::Exchange { request_id, reports, .. }) = play.due.remove(at) else {
            panic!()
        };
        if reports.iter().any(|r| r.lease == lease(1)) {
            let refused = CallError::Refused("reports[1].end: is missing".to_owned());
            play.fail(CallKind::Exchange(request_id), refused);
        } else {
            for report in &reports {
                delivered.insert(report.lease, ());
            }
            play.answer_exchange(request_id, vec![Ack::Accepted; reports.len()], vec![]);
        }
    }
    assert_eq!(delivered.into_keys().collect::<Vec<_>>(), [lease(0), lease(2)]);
}

//! What an earlier agent left behind.

use super::*;

fn earlier() -> Identity {
    identity(3, 2)
}

fn left(index: u64) -> EstateTrial {
    EstateTrial {
        lease: lease(index),
        report: None,
        adapter: None,
        checkpoint: None,
        evaluations: Vec::new(),
    }
}

fn estate(trials: Vec<EstateTrial>) -> Option<Estate> {
    Some(Estate { identity: earlier(), trials })
}

fn failed(index: u64) -> Report {
    let (class, message) = (FailureClass::Data, "bad row".to_owned());
    let end = ReportEnd::Failed { class, message };
    Report { lease: lease(index), evaluations: vec![], last_step: 5, end }
}

#[test]
fn it_is_delivered_under_the_earlier_name_and_the_rest_declared_lost() {
    let trials = vec![
        EstateTrial { report: Some(failed(0)), ..left(0) },
        EstateTrial {
            checkpoint: Some(Kept { step: 10, hash: hash(10) }),
            evaluations: vec![evaluation(10)],
            ..left(1)
        },
        left(2),
    ];
    let mut play = Play::with(config(), 1, estate(trials));
    assert_eq!(play.register(), (earlier().worker, vec![]));
    let mut held = play.heartbeat();
    held.sort();
    assert_eq!(held, [lease(0), lease(1)]);
    let (id, reports, free) = play.exchange();
    assert_eq!(reports, [failed(0)]);
    assert!(free.is_empty(), "the earlier agent wants no more trials");
    play.answer_exchange(id, vec![Ack::Accepted], vec![]);
    assert_eq!(play.progress(), [(lease(1), vec![10], None)]);
    play.uploaded();
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    assert_eq!(play.progress(), [(lease(1), vec![], Some(10))]);
    play.none("leases written down", |a| matches!(a, Action::SaveLeases { .. }));
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    // Now as itself.
    let (worker, mut lost) = play.register();
    lost.sort();
    assert_eq!((worker, lost), (identity(9, 1).worker, vec![lease(1), lease(2)]));
    let goodbye = play.one("goodbye", |a| match a {
        Action::Call(Call::Leave { worker }) => Some(*worker),
        _ => None,
    });
    assert_eq!(goodbye, earlier().worker);
    play.fail(CallKind::Leave, CallError::UnknownWorker);
    let written = play.one("leases to write down", |a| match a {
        Action::SaveLeases { worker, leases, .. } => Some((*worker, leases.clone())),
        _ => None,
    });
    assert_eq!(written, (worker, vec![]));
    assert_eq!(play.exchange().2, [0]);
    // Known under its new name, it stays that.
    play.pass(10_000);
    play.none("goodbye", |a| matches!(a, Action::Call(Call::Leave { .. })));
}

#[test]
fn leases_alone_are_declared_lost_at_once() {
    let mut play = Play::with(config(), 1, estate(vec![left(4)]));
    assert_eq!(play.register(), (identity(9, 1).worker, vec![lease(4)]));
}

#[test]
fn what_was_superseded_meanwhile_is_not_declared_lost() {
    let checkpoint = Some(Kept { step: 10, hash: hash(10) });
    let trials = vec![EstateTrial { checkpoint, ..left(1) }];
    let mut play = Play::with(config(), 1, estate(trials));
    play.register();
    play.heartbeat();
    let stop = Stop { lease: lease(1), reason: StopReason::Superseded };
    play.answer(Answer::HeartbeatHeard { stops: vec![stop], drain: false });
    assert_eq!(play.register(), (identity(9, 1).worker, vec![]));
}

#[test]
fn told_to_go_it_still_settles_the_estate() {
    let checkpoint = Some(Kept { step: 10, hash: hash(10) });
    let trials = vec![EstateTrial { checkpoint, ..left(1) }];
    let mut play = Play::with(config(), 1, estate(trials));
    play.register();
    play.event(Event::Drain);
    play.uploaded();
    play.progress();
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    assert_eq!(play.register().1, [lease(1)]);
    for _ in 0..2 {
        play.one("goodbye", |a| matches!(a, Action::Call(Call::Leave { .. })).then_some(()));
        play.answer(Answer::Left);
    }
    assert_eq!(play.ended(), Exit::Clean);
}

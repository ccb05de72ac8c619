//! Told to go.

use super::*;

#[test]
fn children_checkpoint_their_trials_go_back_and_it_leaves() {
    let mut play = Play::busy(1);
    play.event(Event::Drain);
    assert_eq!(play.stopped(), (0, 1, StopHow::Ask));
    play.checkpoint(0, 1, 0, 42);
    play.exit(0, 1);
    assert_eq!(play.save().end, ReportEnd::Released);
    play.none("exchange before the checkpoint", is_exchange);
    play.uploaded();
    assert_eq!(play.progress(), [(lease(0), vec![], Some(42))]);
    play.answer(Answer::ProgressRecorded { stops: vec![] });
    let (id, reports, free) = play.exchange();
    assert_eq!((reports.len(), free.len()), (1, 0));
    play.answer_exchange(id, vec![Ack::Accepted], vec![]);
    play.one("goodbye", |a| matches!(a, Action::Call(Call::Leave { .. })).then_some(()));
    play.answer(Answer::Left);
    assert_eq!(play.ended(), Exit::Clean);
}

#[test]
fn an_idle_agent_leaves_at_once() {
    let mut play = Play::new(1);
    play.register();
    // Its question for work is still open.
    play.exchange();
    play.event(Event::Drain);
    play.one("goodbye", |a| matches!(a, Action::Call(Call::Leave { .. })).then_some(()));
    play.answer(Answer::Left);
    assert_eq!(play.ended(), Exit::Clean);
}

#[test]
fn one_that_never_found_its_coordinator_goes_at_once() {
    let mut play = Play::new(1);
    play.cut(CallKind::Register);
    play.event(Event::Drain);
    assert_eq!(play.ended(), Exit::Clean);
}

#[test]
fn leases_that_come_too_late_go_back() {
    let mut play = Play::busy(1);
    play.child(0, 1, ChildNews::CannotRun { class: FailureClass::Infra, message: "x".into() });
    play.save();
    let (id, ..) = play.exchange();
    play.event(Event::Drain);
    play.answer_exchange(id, vec![Ack::Accepted], vec![assignment(3, 0)]);
    play.none("start", |a| matches!(a, Action::Start { .. }));
    assert_eq!(play.save().end, ReportEnd::Released);
}

#[test]
fn a_child_that_does_not_stop_is_killed_at_the_deadline() {
    let mut play = Play::busy(1);
    play.event(Event::Drain);
    assert_eq!(play.stopped().2, StopHow::Ask);
    play.pass(MINUTE);
    assert_eq!(play.stopped().2, StopHow::End);
    play.exit(0, 1);
    assert_eq!(play.save().end, ReportEnd::Released);
    play.exchange();
    play.none("exit", |a| matches!(a, Action::Exit(_)));
    play.pass(5_000);
    assert_eq!(play.ended(), Exit::Clean);
}

#[test]
fn without_a_coordinator_it_leaves_its_outbox_behind_at_the_deadline() {
    let mut play = Play::busy(1);
    play.done(0, 1, 0);
    play.exit(0, 1);
    let (lease, file, hash) = (lease(0), FileKind::Adapter, hash(1_000));
    play.event(Event::Drain);
    for _ in 0..64 {
        play.pass(1_000);
        play.cut(CallKind::Upload { lease, file, hash: hash.clone() });
    }
    play.none("exit", |a| matches!(a, Action::Exit(_)));
    play.pass(2_000);
    assert_eq!(play.ended(), Exit::Clean);
    play.none("forget", |a| matches!(a, Action::Forget(_)));
}

#[test]
fn the_walltime_drains_by_itself() {
    let mut play = Play::with(Config { drain_at: Some(MINUTE), ..config() }, 1, None);
    play.register();
    let (id, ..) = play.exchange();
    play.answer_exchange(id, vec![], vec![assignment(0, 0)]);
    let run = play.started(0);
    play.child(0, run, ChildNews::Spawned);
    play.pass(MINUTE - 1);
    play.none("stop", |a| matches!(a, Action::Stop { .. }));
    play.pass(1);
    assert_eq!(play.stopped(), (0, run, StopHow::Ask));
}

#[test]
fn the_coordinator_can_ask_for_it() {
    let mut play = Play::new(1);
    play.register();
    play.exchange();
    play.answer(Answer::HeartbeatHeard { stops: vec![], drain: true });
    play.one("goodbye", |a| matches!(a, Action::Call(Call::Leave { .. })).then_some(()));
    play.answer(Answer::Left);
    assert_eq!(play.ended(), Exit::Clean);
}

//! Registration, leases, heartbeats; the coordinator away and back.

use super::*;

#[test]
fn it_registers_asks_for_its_slots_and_starts_what_it_gets() {
    let mut play = Play::new(2);
    assert_eq!(play.register(), (identity(9, 2).worker, vec![]));
    let (id, reports, free) = play.exchange();
    assert_eq!((reports.len(), free), (0, vec![0, 1]));
    play.answer_exchange(id, vec![], vec![assignment(5, 1)]);
    play.started(1);
    let saved = play.one("leases to write down", |a| match a {
        Action::SaveLeases { leases, .. } if !leases.is_empty() => Some(leases.clone()),
        _ => None,
    });
    assert_eq!(saved, [lease(5)]);
    // The other slot asks again, after the wait that the coordinator wants.
    play.none("exchange", is_exchange);
    play.pass(1_000);
    assert_eq!(play.exchange().2, [0]);
}

#[test]
fn leases_for_one_slot_are_a_pack() {
    let mut play = Play::new(1);
    play.register();
    let (id, ..) = play.exchange();
    play.answer_exchange(id, vec![], vec![assignment(0, 0), assignment(1, 0)]);
    let members = play.one("start", |a| match a {
        Action::Start { pack, .. } => Some(pack.len()),
        _ => None,
    });
    assert_eq!(members, 2);
    // One is taken away: the other trains on. Both: the child ends.
    let run = 1;
    play.child(0, run, ChildNews::Spawned);
    let stop = |index| Stop { lease: lease(index), reason: StopReason::Cancelled };
    play.heartbeat();
    play.answer(Answer::HeartbeatHeard { stops: vec![stop(0)], drain: false });
    let dropped = play.one("drop", |a| match a {
        Action::Drop { slot: 0, run: 1, lease } => Some(*lease),
        _ => None,
    });
    assert_eq!(dropped, lease(0));
    play.none("stop", |a| matches!(a, Action::Stop { .. }));
    play.pass(10_000);
    play.none("drop", |a| matches!(a, Action::Drop { .. }));
    assert_eq!(play.heartbeat(), [lease(1)]);
    play.answer(Answer::HeartbeatHeard { stops: vec![stop(1)], drain: false });
    assert_eq!(play.stopped(), (0, run, StopHow::End));
    play.exit(0, run);
    play.none("report", |a| matches!(a, Action::SaveReport(_)));
}

#[test]
fn a_lease_for_a_slot_that_is_not_free_goes_back() {
    let mut play = Play::new(1);
    play.register();
    let (id, ..) = play.exchange();
    play.answer_exchange(id, vec![], vec![assignment(0, 7)]);
    assert_eq!(play.save().end, ReportEnd::Released);
}

#[test]
fn an_exchange_without_an_answer_is_repeated_to_the_letter() {
    let mut play = Play::new(1);
    play.register();
    let asked = play.exchange();
    play.cut(CallKind::Exchange(asked.0));
    play.none("exchange", is_exchange);
    play.pass(10_000);
    let again = play.exchange();
    assert_eq!(asked, again);
    play.fail(CallKind::Exchange(again.0), CallError::UnknownWorker);
    play.pass(1_000);
    play.register();
    assert_eq!(play.exchange(), asked);
}

#[test]
fn without_room_on_the_disk_reports_go_and_no_trial_is_asked_for() {
    let mut play = Play::busy(1);
    play.event(Event::Room { enough: false });
    play.child(0, 1, ChildNews::CannotRun { class: FailureClass::Infra, message: "full".into() });
    let report = play.save();
    play.event(Event::ReportSaved { lease: report.lease, durable: false });
    let (id, reports, free) = play.exchange();
    assert_eq!((reports, free), (vec![report], vec![]));
    play.answer_exchange(id, vec![Ack::Accepted], vec![]);
    play.pass(MINUTE);
    play.none("exchange", is_exchange);
    play.event(Event::Room { enough: true });
    let (id, _, free) = play.exchange();
    assert_eq!(free, [0]);
    // What was asked for before is handed back.
    play.event(Event::Room { enough: false });
    play.answer_exchange(id, vec![], vec![assignment(1, 0)]);
    assert_eq!(play.save().end, ReportEnd::Released);
}

#[test]
fn a_report_does_not_wait_with_a_question_for_work() {
    let mut play = Play::new(2);
    play.register();
    let (id, ..) = play.exchange();
    play.answer_exchange(id, vec![], vec![assignment(0, 0)]);
    let run = play.started(0);
    play.child(0, run, ChildNews::Spawned);
    play.pass(2_000);
    // The coordinator lets this one wait.
    let question = play.exchange();
    assert_eq!(question.2, [1]);
    play.done(0, run, 0);
    play.exit(0, run);
    assert_eq!(play.uploaded(), FileKind::Adapter);
    let (id, reports, free) = play.exchange();
    assert_eq!((reports.len(), free), (1, vec![0]));
    play.answer_exchange(id, vec![Ack::Accepted], vec![assignment(1, 0)]);
    play.answer_exchange(question.0, vec![], vec![assignment(2, 1)]);
    play.started(0);
    play.started(1);
}

#[test]
fn heartbeats_go_on_whatever_the_children_do() {
    let mut play = Play::busy(1);
    for _ in 0..5 {
        play.pass(10_000);
        assert_eq!(play.heartbeat(), [lease(0)]);
        play.answer(Answer::HeartbeatHeard { stops: vec![], drain: false });
    }
    // One that is not answered is not piled upon.
    play.pass(10_000);
    play.heartbeat();
    play.pass(30_000);
    play.none("heartbeat", |a| matches!(a, Action::Call(Call::Heartbeat { .. })));
}

#[test]
fn an_unknown_worker_registers_again_and_goes_on() {
    let mut play = Play::busy(1);
    play.pass(10_000);
    play.heartbeat();
    play.fail(CallKind::Heartbeat, CallError::UnknownWorker);
    play.pass(1_000);
    assert_eq!(play.register(), (identity(9, 1).worker, vec![]));
    assert_eq!(play.heartbeat(), [lease(0)]);
    play.none("stop", |a| matches!(a, Action::Stop { .. }));
}

#[test]
fn cut_off_it_keeps_training_and_tries_for_as_long_as_it_takes() {
    let mut play = Play::busy(1);
    let mut tries = Vec::new();
    for _ in 0..200 {
        play.pass(5_000);
        play.child(0, 1, ChildNews::Eval { trial: trial(0), evaluation: evaluation(play.now) });
        let beats = play.take().into_iter().filter(|a| {
            assert!(!matches!(a, Action::Exit(_) | Action::Stop { .. }));
            matches!(a, Action::Call(Call::Heartbeat { .. }))
        });
        if beats.count() > 0 {
            tries.push(play.now);
            play.cut(CallKind::Heartbeat);
            play.cut(CallKind::Progress);
        }
    }
    assert!(tries.len() > 60, "{tries:?}");
    let waits = tries.windows(2).map(|w| w[1] - w[0]);
    assert!(waits.max().unwrap() <= 20_000);
    // Back: everything that it kept is delivered.
    play.pass(20_000);
    play.take();
    play.answer(Answer::HeartbeatHeard { stops: vec![], drain: false });
    play.cut(CallKind::Progress);
    play.pass(20_000);
    assert_eq!(play.progress()[0].1.len(), 200);
}

#[test]
fn never_registered_is_exit_code_3() {
    let mut play = Play::new(1);
    while play.now < MINUTE {
        if play.take().iter().any(|a| matches!(a, Action::Call(Call::Register { .. }))) {
            play.cut(CallKind::Register);
        }
        play.pass(500);
    }
    let exit = play.ended();
    assert_eq!((exit, exit.code()), (Exit::NeverRegistered, 3));
    assert!(play.agent.step(Event::Tick, play.now + 1).is_empty());
}

#[test]
fn a_wrong_token_ends_it_at_first_but_not_later() {
    let denied = || CallError::Denied("the token is wrong".to_owned());
    let mut play = Play::new(1);
    play.fail(CallKind::Register, denied());
    play.one("refusal", |a| {
        matches!(a, Action::Fail(reason) if reason.contains("token")).then_some(())
    });
    let mut play = Play::busy(1);
    play.pass(10_000);
    play.fail(CallKind::Heartbeat, denied());
    play.pass(MINUTE);
    play.none("refusal", |a| matches!(a, Action::Fail(_) | Action::Exit(_)));
}

#[test]
fn idle_and_cut_off_it_ends_after_a_while_but_not_while_it_holds_something() {
    let mut play = Play::new(1);
    play.register();
    let (id, ..) = play.exchange();
    for _ in 0..60 {
        play.cut(CallKind::Heartbeat);
        play.cut(CallKind::Exchange(id));
        play.pass(10_000);
        if play.due.iter().any(|a| matches!(a, Action::Exit(_))) {
            break;
        }
    }
    assert_eq!(play.ended(), Exit::Clean);
    assert!((5 * MINUTE..6 * MINUTE).contains(&play.now), "{}", play.now);

    let mut play = Play::busy(1);
    play.done(0, 1, 0);
    play.exit(0, 1);
    for _ in 0..60 {
        play.pass(10_000);
        let (lease, file, hash) = (lease(0), FileKind::Adapter, hash(1_000));
        play.cut(CallKind::Upload { lease, file, hash });
        play.cut(CallKind::Heartbeat);
    }
    play.none("exit", |a| matches!(a, Action::Exit(_)));
}

#[test]
fn the_same_seed_gives_the_same_agent() {
    let trace = || {
        let mut play = Play::busy(2);
        for _ in 0..20 {
            play.pass(7_000);
            play.cut(CallKind::Heartbeat);
        }
        format!("{:?}", play.take())
    };
    assert_eq!(trace(), trace());
}

#[test]
fn leases_that_could_not_be_written_down_are_written_again() {
    let noted = |a: &Action| match a {
        Action::SaveLeases { leases, .. } => Some(leases.clone()),
        _ => None,
    };
    let mut play = Play::new(1);
    play.register();
    let ask = play.exchange();
    play.take();
    play.answer_exchange(ask.0, vec![], vec![assignment(0, 0)]);
    assert_eq!(play.one("the leases written down", noted), [lease(0)]);
    play.event(Event::LeasesSaved { durable: false });
    play.none("leases written down at once", |a| noted(a).is_some());
    play.now = play.agent.wake().unwrap().max(play.now + 5_000);
    play.event(Event::Tick);
    assert_eq!(play.one("the leases written down", noted), [lease(0)]);
    play.event(Event::LeasesSaved { durable: true });
    play.now += 60_000;
    play.event(Event::Tick);
    play.none("leases written down once more", |a| noted(a).is_some());
}

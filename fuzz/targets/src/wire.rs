//! Messages of clients and agents: decoded, converted and given to a scheduler that has a sweep and a
//! worker, one after the other.

use deptune_proto::convert::{Assignment, Command, InvalidField, NewSweep};
use deptune_proto::v1;
use deptune_sweep::scheduler::{Config, Event, Now, Scheduler};
use prost::Message;

/// Most messages of one input.
const MOST: usize = 64;

/// A sweep of two trials, and a worker with a slot.
fn scheduler() -> Option<Scheduler> {
    let mut scheduler = Scheduler::new(Config::default());
    for message in [
        v1::RegisterWorkerRequest {
            worker_id: WORKER.to_owned(),
            name: "node".to_owned(),
            version: "1".to_owned(),
            slots: vec![v1::Slot { kind: "cpu".to_owned(), max_pack: 2, ..Default::default() }],
            ..Default::default()
        }
        .try_into(),
        submit(&submission()),
    ] {
        let _ = scheduler.step(message.ok()?, Now { monotonic: 0, wall: 0 });
    }
    Some(scheduler)
}

const WORKER: &str = "00000000-0000-0000-0000-000000000001";

fn submission() -> v1::SubmitSweepRequest {
    v1::SubmitSweepRequest {
        request_id: "00000000-0000-0000-0000-000000000002".to_owned(),
        spec: r#"
            name = "s"
            model.path = "m"
            task = { name = "sst2", train = "t.tsv" }
            method.kind = "dept"
            space = { prompt_lr = [0.3], lowrank_lr = [1e-4], prompt_length = 4, rank = 3, seeds = [1, 2] }
            train = { steps = 10, max_length = 32 }"#
            .to_owned(),
        format: "toml".to_owned(),
        model_config: r#"{"model_type":"t5","d_model":8,"d_kv":4,"d_ff":16,"num_layers":1,
            "num_heads":2,"vocab_size":16}"#
            .to_owned(),
        ..Default::default()
    }
}

/// A submission as the coordinator takes it.
fn submit(request: &v1::SubmitSweepRequest) -> Result<Event, InvalidField> {
    let NewSweep { request_id, submission } = request.clone().try_into()?;
    match submission.parse() {
        Ok(spec) => Ok(Event::Submit { request_id, submission, spec: Box::new(spec) }),
        // Refused in the words of the spec; nothing happens then.
        Err(_) => Ok(Event::Tick),
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

fn event<M>(bytes: &[u8]) -> Option<Event>
where
    M: Message + Default + TryInto<Event, Error = InvalidField>,
{
    heard(decode::<M>(bytes)?.try_into())
}

fn control<M>(bytes: &[u8]) -> Option<Event>
where
    M: Message + Default + TryInto<Command, Error = InvalidField>,
{
    let Command { request_id, content, control, .. } = heard(decode::<M>(bytes)?.try_into())?;
    let sweep = deptune_sweep::id::SweepId(1);
    Some(Event::Control { request_id, content, sweep, control })
}

/// What is refused must also have words for people.
fn heard<T>(converted: Result<T, InvalidField>) -> Option<T> {
    converted.map_err(|error| error.to_string()).ok()
}

fn message(kind: u8, bytes: &[u8]) -> Option<Event> {
    match kind {
        b'R' => event::<v1::RegisterWorkerRequest>(bytes),
        b'E' => event::<v1::CompleteAndLeaseRequest>(bytes),
        b'H' => event::<v1::HeartbeatRequest>(bytes),
        b'P' => event::<v1::ReportProgressRequest>(bytes),
        b'L' => event::<v1::LeaveWorkerRequest>(bytes),
        b'D' => event::<v1::DrainWorkerRequest>(bytes),
        b'S' => heard(submit(&decode(bytes)?)),
        b'p' => control::<v1::PauseSweepRequest>(bytes),
        b'r' => control::<v1::ResumeSweepRequest>(bytes),
        b'c' => control::<v1::ChangeSweepRequest>(bytes),
        b't' => control::<v1::RetryTrialsRequest>(bytes),
        b'x' => control::<v1::CancelSweepRequest>(bytes),
        b'y' => control::<v1::CancelTrialRequest>(bytes),
        b'd' => control::<v1::DeleteSweepRequest>(bytes),
        // What an agent is told.
        b'A' => {
            let _: Option<Assignment> = heard(decode::<v1::Lease>(bytes)?.try_into());
            None
        }
        _ => Some(Event::Tick),
    }
}

/// Messages, each a letter that says its kind, its length in two bytes, and itself.
pub fn wire(bytes: &[u8]) {
    run(bytes);
}

/// How many of the messages were understood.
fn run(mut bytes: &[u8]) -> usize {
    let Some(mut scheduler) = scheduler() else { return 0 };
    let mut understood = 0;
    for time in 0..MOST as u64 {
        let [kind, high, low, rest @ ..] = bytes else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, next) = rest.split_at(length);
        bytes = next;
        if let Some(event) = message(*kind, content) {
            understood += 1;
            // Some leases expire between two messages.
            let _ = scheduler.step(event, Now { monotonic: time * 4_000, wall: 0 });
        }
    }
    let now = Now { monotonic: MOST as u64 * 4_000, wall: 0 };
    let sound = scheduler.audit(now);
    assert!(sound.is_ok(), "{sound:?}");
    understood
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use super::*;

    const REQUEST: &str = "00000000-0000-0000-0000-000000000003";

    fn frame(kind: u8, message: &impl Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[kind], &length[..], &bytes].concat()
    }

    /// A day in the life: leases, news, ends, changes.
    fn seeds() -> Vec<(Vec<u8>, usize)> {
        let (worker_id, request_id) = (WORKER.to_owned(), REQUEST.to_owned());
        let sweep = "1".to_owned();
        let trial = Some(v1::TrialId { sweep: 1, index: 0 });
        let lease = Some(v1::LeaseRef { trial, epoch: 1 });
        let ask = v1::CompleteAndLeaseRequest {
            worker_id: worker_id.clone(),
            request_id: request_id.clone(),
            reports: Vec::new(),
            free_slots: vec![0],
        };
        let progress = v1::LeaseProgress { lease, step: 3, loss: 0.5, steps_per_second: 2.0 };
        let heartbeat =
            v1::HeartbeatRequest { worker_id: worker_id.clone(), leases: vec![progress] };
        let end = v1::report::End::Released(v1::report::Released {});
        let report = v1::Report { lease, evaluations: vec![], last_step: 4, end: Some(end) };
        let tell = v1::CompleteAndLeaseRequest { reports: vec![report], ..ask.clone() };
        let drain = v1::DrainWorkerRequest { worker_id: worker_id.clone() };
        let leave = v1::LeaveWorkerRequest { worker_id };
        let pause = v1::PauseSweepRequest { request_id: request_id.clone(), sweep: sweep.clone() };
        let change = v1::ChangeSweepRequest {
            request_id: request_id.clone(),
            sweep: sweep.clone(),
            add_seeds: vec![7],
            weight: Some(2),
            add_space: Some(v1::AddedSpace {
                text: "[space]\nprompt_lr = 0.7\n".to_owned(),
                format: "toml".to_owned(),
            }),
            ..Default::default()
        };
        let cancel = v1::CancelTrialRequest { request_id: request_id.clone(), trial };
        let delete = v1::DeleteSweepRequest { request_id, sweep, preview: false };
        let work = [
            frame(b'E', &ask),
            frame(b'H', &heartbeat),
            frame(b'E', &tell),
            frame(b'D', &drain),
            frame(b'L', &leave),
        ];
        let people = [
            frame(b'c', &change),
            frame(b'y', &cancel),
            frame(b'p', &pause),
            frame(b'd', &delete),
            frame(b'S', &submission()),
        ];
        vec![(work.concat(), work.len()), (people.concat(), people.len())]
    }

    #[test]
    fn the_seeds_are_understood_and_stand_in_the_corpus() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/wire");
        for (at, (bytes, messages)) in seeds().into_iter().enumerate() {
            assert_eq!(run(&bytes), messages, "seed {at}");
            let kept = std::fs::read_dir(&corpus).unwrap();
            let mut kept = kept.map(|file| std::fs::read(file.unwrap().path()).unwrap());
            assert!(kept.any(|other| other == bytes), "seed {at} is not in the corpus");
        }
    }
}

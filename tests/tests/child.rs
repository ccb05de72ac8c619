//! The agent's children: every way in which one can go wrong ends in a class and in words, takes
//! bounded memory, and leaves no process behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: what goes wrong here ends the test that asked for it"
)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use deptune_sweep::child::{Device, Job, Member, Message, PROTOCOL};
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::spec::{Format, Settings, Spec};
use deptune_worker::child::{Child, Launch, MAX_LOG, Output, Spawner};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

const TRIAL: TrialId = TrialId { sweep: SweepId(1), index: 0 };

fn settings() -> Settings {
    let text = r#"
        name = "small"
        [model]
        path = "t5"
        [task]
        name = "sst2"
        train = "train.tsv"
        validation = "dev.tsv"
        [method]
        kind = "pt"
        [space]
        prompt_lr = [0.3]
        prompt_length = [10]
        seeds = [1]
        [search]
        kind = "grid"
        [train]
        steps = 20
        eval_every = 5
    "#;
    Spec::parse(text, Format::Toml, None).unwrap().settings(0).unwrap()
}

/// A child and what it says.
struct World {
    dir: tempfile::TempDir,
    child: Child,
    outputs: mpsc::Receiver<Output>,
    // Its thread is the children's parent.
    _spawner: Spawner,
}

fn launch(dir: &Path, orders: &str, resume: Option<PathBuf>) -> Launch {
    let scratch = dir.join("scratch");
    fs::create_dir_all(&scratch).unwrap();
    Launch {
        program: PathBuf::from(env!("CARGO_BIN_EXE_fake-trainer")),
        environment: vec![("DEPTUNE_FAKE".into(), OsString::from(orders))],
        dir: dir.to_owned(),
        job: Job {
            protocol: PROTOCOL,
            model: dir.to_owned(),
            model_files: Vec::new(),
            data: Vec::new(),
            adapters: Vec::new(),
            scratch,
            device: Device::Cpu,
            threads: 1,
            trials: vec![Member { trial: TRIAL, settings: settings(), resume }],
        },
    }
}

fn start(orders: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let orders = orders.replace("DIR", dir.path().to_str().unwrap());
    resume(dir, &orders, None)
}

fn resume(dir: tempfile::TempDir, orders: &str, from: Option<PathBuf>) -> World {
    let spawner = Spawner::start().unwrap();
    let (sender, outputs) = mpsc::channel(16);
    let child = Child::spawn(&spawner, launch(dir.path(), orders, from), sender).unwrap();
    World { dir, child, outputs, _spawner: spawner }
}

/// What a child said and how it ended.
struct End {
    messages: Vec<Message>,
    class: FailureClass,
    message: String,
}

impl World {
    async fn next(&mut self) -> Output {
        let next = tokio::time::timeout(PATIENCE, self.outputs.recv()).await;
        next.expect("no news of the child").expect("the end of the news without an exit")
    }

    async fn end(&mut self) -> End {
        let mut messages = Vec::new();
        loop {
            match self.next().await {
                Output::Message(message) => messages.push(*message),
                Output::Exited { class, message } => return End { messages, class, message },
            }
        }
    }

    async fn started(&mut self) {
        match self.next().await {
            Output::Message(message) => assert!(matches!(*message, Message::Started { .. })),
            Output::Exited { message, .. } => panic!("{message}"),
        }
    }

    /// The processes that the fake trainer wrote down.
    fn pids(&self, count: usize) -> Vec<Pid> {
        read_pids(&self.dir.path().join("pids"), count)
    }
}

fn read_pids(path: &Path, count: usize) -> Vec<Pid> {
    let mut pids = Vec::new();
    until(|| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.lines().filter(|_| text.ends_with('\n'));
        pids = whole.map(|line| Pid::from_raw(line.parse().unwrap())).collect();
        pids.len() == count
    });
    pids
}

fn until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gone, or dead and waiting for whoever inherited it to take notice.
fn is_gone(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return true;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Most memory that this process ever held, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn fails(orders: &str, class: FailureClass, words: &str) -> World {
    let mut world = start(orders);
    let end = world.end().await;
    assert_eq!(end.class, class, "{}", end.message);
    assert!(end.message.contains(words), "{}", end.message);
    let done = end.messages.iter().any(|m| matches!(m, Message::Done { .. }));
    assert!(!done, "a failed child finished a trial");
    world
}

#[tokio::test]
async fn a_child_trains_to_its_end() {
    let mut world = start("");
    let end = world.end().await;
    let checkpoints: Vec<u64> = end
        .messages
        .iter()
        .filter_map(|m| match m {
            Message::Checkpoint { step, path, .. } => {
                assert!(path.is_file());
                Some(*step)
            }
            _ => None,
        })
        .collect();
    assert_eq!(checkpoints, [5, 10, 15, 20]);
    match end.messages.last() {
        Some(Message::Done { result, adapter, .. }) => {
            assert_eq!((result.steps, result.best_step), (20, 20));
            assert!(adapter.is_file());
        }
        other => panic!("{other:?}"),
    }
    assert!(end.message.contains("code 0"), "{}", end.message);
}

#[tokio::test]
async fn crashes_have_a_class_and_words() {
    let crashed = FailureClass::Crashed;
    fails("fault=abort at=7", crashed, "signal 6 (SIGABRT)").await;
    fails("fault=segv at=7", crashed, "signal 11 (SIGSEGV)").await;
    fails("fault=kill at=7", crashed, "out-of-memory killer").await;
    fails("fault=exit0 at=7", crashed, "code 0 and no result").await;
    let world = fails("fault=exit3 at=7", crashed, "code 3").await;
    let log = fs::read_to_string(world.dir.path().join("log")).unwrap();
    assert_eq!(log, "first words\nthe disk is on fire\n");
    fails("fault=exit3", crashed, "last line of its log: the disk is on fire").await;
}

#[tokio::test]
async fn nonsense_ends_the_child() {
    let crashed = FailureClass::Crashed;
    fails("fault=garbage at=3", crashed, "Segmentation fault (core dumped)").await;
    fails("fault=stray at=3", crashed, "not its own").await;
    fails("fault=escape at=3", crashed, "/etc/passwd").await;
}

#[tokio::test]
async fn a_gigabyte_on_one_line_takes_bounded_memory() {
    let before = peak_memory();
    fails("fault=longline at=3", FailureClass::Crashed, "longer than 1048576 bytes").await;
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[tokio::test]
async fn a_log_without_end_is_cut() {
    let world = fails("fault=chatter at=3", FailureClass::Crashed, "enough").await;
    let length = fs::metadata(world.dir.path().join("log")).unwrap().len();
    assert!(length <= MAX_LOG + 1024, "{length}");
}

#[tokio::test]
async fn a_flood_of_messages_waits_and_ends_when_told() {
    let before = peak_memory();
    let mut world = start("fault=flood at=3");
    world.started().await;
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(matches!(world.next().await, Output::Message(_)));
        count += 1;
    }
    assert!(count < 5_000, "{count} messages");
    world.child.end();
    let end = world.end().await;
    assert_eq!(end.class, FailureClass::Crashed);
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[tokio::test]
async fn what_the_trainer_says_about_itself_is_passed_on() {
    for (fault, class) in [
        ("diverged", FailureClass::Diverged),
        ("oom", FailureClass::Oom),
        ("data", FailureClass::Data),
    ] {
        let mut world = start(&format!("fault={fault} at=7"));
        let end = world.end().await;
        let said = end.messages.iter().find_map(|m| match m {
            Message::Failed { class, .. } => Some(*class),
            _ => None,
        });
        assert_eq!(said, Some(class));
    }
    let mut world = start("fault=nan at=7");
    let end = world.end().await;
    let nan = |m: &Message| match m {
        Message::Eval { evaluation, .. } => {
            evaluation.metrics.iter().any(|(_, v)| matches!(v, Number::NaN))
        }
        _ => false,
    };
    assert!(end.messages.iter().any(nan));
    assert!(matches!(end.messages.last(), Some(Message::Done { .. })));
}

#[tokio::test]
async fn asked_to_stop_it_checkpoints_and_the_next_one_goes_on_from_there() {
    let mut world = start("step_ms=200");
    world.started().await;
    world.child.ask();
    let end = world.end().await;
    let (step, path) = match end.messages.last() {
        Some(Message::Checkpoint { step, path, .. }) => (*step, path.clone()),
        other => panic!("{other:?}: {}", end.message),
    };
    assert!(step < 20);
    let kept = world.dir.path().join("kept");
    fs::copy(path, &kept).unwrap();
    let mut undisturbed = start("");
    let mut resumed = resume(world.dir, "", Some(kept));
    let (resumed, undisturbed) = (resumed.end().await, undisturbed.end().await);
    match resumed.messages.first() {
        Some(Message::Started { first_steps, .. }) => assert_eq!(first_steps, &[step]),
        other => panic!("{other:?}"),
    }
    let result = |end: &End| match end.messages.last() {
        Some(Message::Done { result, .. }) => (result.metric, result.best_step, result.steps),
        other => panic!("{other:?}"),
    };
    assert_eq!(result(&resumed), result(&undisturbed));
}

#[tokio::test]
async fn a_hanging_child_stops_when_asked() {
    let mut world = start("fault=hang at=3");
    world.started().await;
    world.child.end();
    let begun = Instant::now();
    world.end().await;
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_deaf_child_and_its_descendants_are_killed_after_five_seconds() {
    let mut world = start("fault=deaf at=3 pids=DIR/pids");
    let [child, _] = world.pids(2)[..] else { panic!() };
    world.child.end();
    let begun = Instant::now();
    let end = world.end().await;
    assert!(end.message.contains("signal 9"), "{}", end.message);
    assert!(begun.elapsed() >= Duration::from_secs(4));
    assert!(is_gone(child));
}

#[tokio::test]
async fn a_grandchild_goes_with_its_parent() {
    // Ended by the agent.
    let mut world = start("fault=grandchild at=3 step_ms=100 pids=DIR/pids");
    let pids = world.pids(2);
    world.child.end();
    world.end().await;
    until(|| pids.iter().all(|&pid| is_gone(pid)));
    // Left behind by a parent that finished.
    let mut world = start("fault=grandchild at=3 pids=DIR/pids");
    let begun = Instant::now();
    let end = world.end().await;
    assert!(matches!(end.messages.last(), Some(Message::Done { .. })));
    assert!(begun.elapsed() < Duration::from_secs(10), "its pipes were waited for");
    let pids = world.pids(2);
    until(|| pids.iter().all(|&pid| is_gone(pid)));
}

#[tokio::test]
async fn children_of_a_dead_agent_die_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_agent_that_waits_to_be_killed", "--ignored", "--nocapture"])
        .env("AGENT_DIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let [child] = read_pids(&dir.path().join("pids"), 1)[..] else { panic!() };
    assert!(!is_gone(child));
    // The thread that asked for the child has ended long ago; the child lives.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!is_gone(child));
    kill(Pid::from_raw(i32::try_from(agent.id()).unwrap()), Signal::SIGKILL).unwrap();
    agent.wait().unwrap();
    until(|| is_gone(child));
}

/// Not a test: the other process of the one above.
#[test]
#[ignore = "run by children_of_a_dead_agent_die_with_it"]
fn an_agent_that_waits_to_be_killed() {
    let Some(dir) = std::env::var_os("AGENT_DIR").map(PathBuf::from) else { return };
    let spawner = Spawner::start().unwrap();
    let (sender, _outputs) = mpsc::channel(16);
    let asker = spawner.clone();
    std::thread::spawn(move || {
        let orders = format!("fault=hang at=3 pids={}", dir.join("pids").display());
        Child::spawn(&asker, launch(&dir, &orders, None), sender).unwrap();
    })
    .join()
    .unwrap();
    std::thread::sleep(PATIENCE);
    drop(spawner);
}

#[tokio::test]
async fn a_missing_trainer_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let spawner = Spawner::start().unwrap();
    let (sender, _outputs) = mpsc::channel(16);
    let mut launch = launch(dir.path(), "", None);
    launch.program = dir.path().join("no-trainer");
    let error = Child::spawn(&spawner, launch, sender).unwrap_err();
    assert!(error.to_string().ends_with("no-trainer"), "{error}");
}

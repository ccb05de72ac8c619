//! The thread that starts children.
//!
//! A child asks the kernel to be killed when its parent dies. The kernel means the *thread* that
//! forked it, so all children are forked by one thread that lives as long as the agent.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid, setsid};

/// Starts children. When the last clone is dropped, its thread ends and the kernel kills them.
#[derive(Debug, Clone)]
pub struct Spawner {
    requests: Sender<Request>,
}

struct Request {
    command: Command,
    answer: Sender<io::Result<Child>>,
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start() -> io::Result<Spawner> {
        let (requests, received) = channel();
        let thread = std::thread::Builder::new().name("deptune-spawn".to_owned());
        thread.spawn(move || serve(&received))?;
        Ok(Spawner { requests })
    }

    /// Starts `program run` in `dir` with piped standard streams, in a session of its own. It
    /// gets SIGKILL when this process dies.
    pub(super) fn spawn(
        &self,
        program: PathBuf,
        environment: Vec<(OsString, OsString)>,
        dir: PathBuf,
    ) -> io::Result<Child> {
        let mut command = Command::new(program);
        command
            .arg("run")
            .env_clear()
            .envs(environment)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tie(&mut command, getpid());
        let (answer, answers) = channel();
        let over = || io::Error::other("the thread that starts children has ended");
        self.requests.send(Request { command, answer }).map_err(|_| over())?;
        answers.recv().map_err(|_| over())?
    }
}

fn serve(requests: &Receiver<Request>) {
    while let Ok(mut request) = requests.recv() {
        let _ = request.answer.send(request.command.spawn());
    }
}

/// Ties the child to this process, before it becomes the program.
fn tie(command: &mut Command, parent: Pid) {
    let before_exec = move || -> io::Result<()> {
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above; then nobody would kill us.
        if getppid() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        prctl::set_no_new_privs()?;
        // An abort with a model in memory would fill the disk with its core.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "between fork and exec only async-signal-safe system calls are made, and \
                  errors without allocation: setsid, prctl, getppid, setrlimit"
    )]
    unsafe {
        command.pre_exec(before_exec);
    }
}

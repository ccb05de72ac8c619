//! The processes of a benchmark. They end with their driver, whatever becomes of it: each reads
//! its standard input to the end, and each is killed when its handle is dropped.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use deptune_proto::v1::GetServerInfoRequest;

use super::coordinator::Serving;
use super::worker::{Done, READY};
use super::{Store, broken, unexpected};
use crate::client::Client;
use crate::output::error::Error;
use crate::paths::Target;

/// A process that is spoken with line by line.
struct Process {
    what: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(what: &'static str, args: &[&str]) -> Result<Process, Error> {
        let program = std::env::current_exe().map_err(broken(what))?;
        let mut child = Command::new(program)
            .arg("bench")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken(what))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unexpected(what, "no pipes"));
        };
        Ok(Process { what, child, input: Some(input), output: BufReader::new(output) })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn say(&mut self, line: &str) -> Result<(), Error> {
        let Some(input) = &mut self.input else { return Ok(()) };
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(broken(self.what))
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        let bytes = self.output.read_line(&mut line).map_err(broken(self.what))?;
        if bytes == 0 {
            return Err(unexpected(self.what, "it ended early; see its messages above"));
        }
        Ok(line.trim_end().to_owned())
    }

    /// Closes its input and waits for its end.
    fn end(&mut self) -> Result<(), Error> {
        self.input = None;
        self.child.wait().map_err(broken(self.what))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A coordinator in a process of its own.
pub(crate) struct Server {
    process: Process,
    serving: Serving,
}

impl Server {
    /// Starts it on `directory`, and returns once it serves.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(directory: &Path, store: Store, counting: bool) -> Result<Server, Error> {
        let directory = directory.display().to_string();
        let mut args = vec!["coordinator", "--data-dir", &directory, "--store", store.as_str()];
        if counting {
            args.push("--counting");
        }
        let mut process = Process::start("the benchmark's coordinator", &args)?;
        let serving = serde_json::from_str(&process.line()?).map_err(broken(process.what))?;
        Ok(Server { process, serving })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SQL statements that it has run; it must be counting them.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn statements(&mut self) -> Result<u64, Error> {
        self.process.say("")?;
        self.process.line()?.parse().map_err(broken(self.process.what))
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let target = Target {
            addresses: vec![self.serving.address.clone()],
            token_file: Some(self.serving.token_file.clone()),
        };
        let client = Client::connect(&target).await?;
        // On Postgres it may stand by for a moment before it leads.
        let request = GetServerInfoRequest {};
        let answer = client.call("ask the coordinator", || {
            let mut sweeps = client.sweeps();
            async move { sweeps.get_server_info(request).await }
        });
        answer.await?;
        Ok(client)
    }

    /// Ends it as a person would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        self.process.end()
    }
}

/// A worker in a process of its own.
pub(crate) struct Worker(Process);

impl Worker {
    /// Starts it; it works at [`Worker::go`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(server: &Server, seconds: Option<Duration>) -> Result<Worker, Error> {
        let serving = &server.serving;
        let token_file = serving.token_file.display().to_string();
        let seconds = seconds.map(|seconds| format!("{}s", seconds.as_secs_f64()));
        let mut args = vec!["worker", "--server", &serving.address, "--token-file", &token_file];
        if let Some(seconds) = &seconds {
            args.extend(["--seconds", seconds]);
        }
        Process::start("a worker of the benchmark", &args).map(Worker)
    }

    /// Waits until it is registered.
    ///
    /// # Errors
    /// When it ended before.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        let said = self.0.line()?;
        if said == READY { Ok(()) } else { Err(unexpected(self.0.what, said)) }
    }

    /// Has it work.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn go(&mut self) -> Result<(), Error> {
        self.0.say("go")
    }

    /// Waits until it has worked.
    ///
    /// # Errors
    /// When it ended before, or makes no sense.
    pub(crate) fn done(mut self) -> Result<Done, Error> {
        let done = serde_json::from_str(&self.0.line()?).map_err(broken(self.0.what))?;
        self.0.end()?;
        Ok(done)
    }
}

//! One test's own machine: a home, a coordinator's data directory, workers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::database::Database;
use crate::finished::Finished;
use crate::process::Process;
use crate::program::program;
use crate::project::Project;
use crate::wait::PATIENCE;

/// A temporary directory that holds everything that the programs of one test write.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// An empty one.
    #[must_use]
    pub fn new() -> World {
        let dir = TempDir::with_prefix("deptune-test-").unwrap();
        for name in ["home", "logs"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        World { dir, variables: Vec::new() }
    }

    /// Sets a variable in the environment of every program that is started from now on.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> World {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same for a variable that changes; empty for none.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data directory of the coordinator.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// A new project in the folder `name`.
    #[must_use]
    pub fn project(&self, name: &str) -> Project {
        Project::new(&self.path(name))
    }

    /// A `deptune` command that sees nothing of the person who runs the tests: neither their
    /// settings nor their files nor their Slurm job; and nothing of the network.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["DEPTUNE_", "SLURM_", "XDG_", "HF_", "HUGGING"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
            .env_remove("DATABASE_URL")
            .env("HOME", self.path("home"))
            .env("DEPTUNE_HOME", self.data_dir())
            .env("HF_HUB_OFFLINE", "1")
            .env("NO_PROXY", "*")
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1")
            .envs(self.variables.iter().cloned());
        command
    }

    /// Starts `deptune ARGS` and lets it run; its logs bear `name`.
    #[must_use]
    pub fn start(&self, name: &str, args: &[&str]) -> Process {
        Process::start(&mut self.command(args), name, &self.path("logs"))
    }

    /// Runs `deptune ARGS` to its end, which must come soon.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Finished {
        self.run_within(PATIENCE, args)
    }

    /// Runs `deptune ARGS` to its end, which must come within `timeout`.
    #[track_caller]
    pub fn run_within(&self, timeout: Duration, args: &[&str]) -> Finished {
        let name = args.first().copied().unwrap_or("deptune");
        self.start(name, args).wait(timeout)
    }

    /// Starts the coordinator on a free port.
    #[track_caller]
    #[must_use]
    pub fn serve(&self) -> Coordinator {
        self.serve_at("127.0.0.1:0", &[])
    }

    /// Starts the coordinator at an address, as of one that was killed, with further arguments.
    #[track_caller]
    #[must_use]
    pub fn serve_at(&self, listen: &str, args: &[&str]) -> Coordinator {
        let mut process = self.start("serve", &[&["serve", "--listen", listen], args].concat());
        // The last of the lines that it says when it is ready.
        process.wait_for("database ");
        let said = process.stderr();
        let after = |label: &str| {
            let line = said.lines().find_map(|line| line.split_once(label)).unwrap_or_else(|| {
                panic!("no line with '{label}' in\n{said}");
            });
            line.1.trim().to_owned()
        };
        Coordinator {
            address: after("listening on "),
            token_file: PathBuf::from(after("token file ")),
            database: PathBuf::from(after("database ")),
            process,
        }
    }

    /// Starts a worker with one slot of one thread, unless `args` say otherwise. Its state directory is its name's, so that a
    /// second worker of the same name is the same agent again.
    #[must_use]
    pub fn worker(&self, name: &str, trainer: &Path, roots: &[&Path], args: &[&str]) -> Process {
        self.worker_with("", name, trainer, roots, args)
    }

    /// The same with orders for the child that only pretends to train (see its source).
    #[must_use]
    pub fn worker_with(
        &self,
        orders: &str,
        name: &str,
        trainer: &Path,
        roots: &[&Path],
        args: &[&str],
    ) -> Process {
        let mut command = self.command(&["worker", "--name", name]);
        if !args.contains(&"--slots") {
            command.args(["--slots", "1"]);
        }
        command
            .args(["--threads", "1", "--device", "cpu"])
            .arg("--state-dir")
            .arg(self.path(&format!("state-{name}")))
            .arg("--cache-dir")
            .arg(self.path("cache"))
            .arg("--trainer")
            .arg(trainer)
            .env("DEPTUNE_FAKE", orders);
        for root in roots {
            command.arg("--model-root").arg(root);
        }
        Process::start(command.args(args), name, &self.path("logs"))
    }
}

/// A running `deptune serve`.
#[derive(Debug)]
pub struct Coordinator {
    /// The process.
    pub process: Process,
    /// `host:port`.
    pub address: String,
    /// The token's file.
    pub token_file: PathBuf,
    /// The SQLite file, or the address of the Postgres database.
    pub database: PathBuf,
}

impl Coordinator {
    /// Reads the database from outside.
    #[track_caller]
    #[must_use]
    pub fn database(&self) -> Database {
        Database::open(&self.database)
    }
}

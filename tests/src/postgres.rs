//! Debian's Postgres, started by the tests themselves in a temporary directory: one server for all
//! tests of a program, a new database for each test. The server ends with the test program, however
//! that ends.
//!
//! `DEPTUNE_TEST_PG_URL` names a server to use instead; its user must be allowed to make databases.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};

/// The password of the server's only user: one that would be seen if it were shown anywhere.
pub const PASSWORD: &str = "canary-s3cret";

const USER: &str = "deptune";

/// Ends the server and removes its directory once nobody holds the other end of its input.
const WATCH: &str = r#"trap '' INT TERM HUP
cat >/dev/null
"$0/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1
rm -rf "$1""#;

/// A server.
#[derive(Debug)]
pub struct Postgres {
    /// `postgres://USER:PASSWORD@HOST:PORT` without a database.
    base: String,
    /// Our own server; `None` for one that was named.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    /// Whom it runs as, where the tests run as root, which Postgres refuses.
    user: Option<User>,
    watch: Child,
}

/// The processes of a server that is stopped; they go on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in self.0.iter().rev() {
            let _ = kill(*process, Signal::SIGCONT);
        }
    }
}

/// A database of a test's own, dropped with it.
#[derive(Debug)]
pub struct PostgresDatabase<'s> {
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME`.
    pub url: String,
    name: String,
    server: &'s Postgres,
}

impl Postgres {
    /// The server that the tests of this program share. `None`, said loudly, where Postgres is not
    /// installed; in CI that is a failure.
    #[must_use]
    pub fn shared() -> Option<&'static Postgres> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::named().or_else(|| Postgres::start(&[]))).as_ref()
    }

    fn named() -> Option<Postgres> {
        let url = std::env::var("DEPTUNE_TEST_PG_URL").ok()?;
        let after_scheme = url.find("://").map_or(0, |at| at + 3);
        let end = url[after_scheme..].find('/').map_or(url.len(), |at| after_scheme + at);
        Some(Postgres { base: url[..end].to_owned(), own: None })
    }

    /// A server of the caller's own, with further settings (`NAME=VALUE`), as for tests that stop it.
    #[must_use]
    pub fn start(settings: &[&str]) -> Option<Postgres> {
        let Some(bin) = programs() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "Postgres is not installed, and CI must test with it: apt-get install postgresql"
            );
            eprintln!("SKIPPED: Postgres is not installed; run: apt-get install postgresql");
            return None;
        };
        let user = Uid::effective().is_root().then(unprivileged);
        let dir = tempfile::Builder::new().prefix("deptune-pg-").tempdir().unwrap().keep();
        if let Some(user) = &user {
            chown(&dir, Some(user.uid), Some(user.gid)).unwrap();
        }
        let watch = Command::new("sh")
            .args(["-c", WATCH])
            .arg(&bin)
            .arg(&dir)
            .stdin(Stdio::piped())
            // Not with the terminal's Ctrl-C: after the tests.
            .process_group(0)
            .run_as(user.as_ref())
            .spawn()
            .unwrap();
        let mut own = Own { bin, dir, port: 0, user, watch };
        own.initialise();
        // Another program may take the port between its choice and its use.
        let started = (0..5).any(|_| {
            own.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            own.try_start(settings)
        });
        assert!(started, "Postgres does not start: {}", own.log());
        let base = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}", own.port);
        Some(Postgres { base, own: Some(own) })
    }

    /// A new, empty database.
    #[must_use]
    pub fn database(&self) -> PostgresDatabase<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("deptune_test_{}_{number}", std::process::id());
        self.psql("postgres", &format!("create database {name}"));
        PostgresDatabase { url: format!("{}/{name}", self.base), name, server: self }
    }

    /// Ends the server at once, as a crash of its machine would (but for the disk), and starts it
    /// again. Only for a server of the caller's own.
    pub fn crash_and_restart(&self) {
        self.crash();
        self.restart();
    }

    /// Ends the server at once. Only for a server of the caller's own.
    pub fn crash(&self) {
        let own = self.own.as_ref().expect("a server of our own");
        assert!(own.pg_ctl(&["-m", "immediate", "stop"]).status.success());
    }

    /// Starts it again.
    pub fn restart(&self) {
        let own = self.own.as_ref().expect("a server of our own");
        assert!(own.pg_ctl(&["-w", "start"]).status.success(), "{}", own.log());
    }

    /// Stops the server and all of its sessions, as a machine that hangs would: connections are
    /// accepted, and nothing is answered, until what this returns is dropped. Only for a server of
    /// the caller's own.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        let own = self.own.as_ref().expect("a server of our own");
        let file = fs::read_to_string(own.data().join("postmaster.pid")).unwrap();
        let first: i32 = file.lines().next().unwrap().trim().parse().unwrap();
        let mut frozen = Frozen(vec![Pid::from_raw(first)]);
        // The first one first, so that no other is added.
        kill(frozen.0[0], Signal::SIGSTOP).unwrap();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().unwrap());
            // It may have ended meanwhile.
            if kill(child, Signal::SIGSTOP).is_ok() {
                frozen.0.push(child);
            }
        }
        frozen
    }

    /// Ends every session of a database, as an administrator would.
    pub fn terminate(&self, database: &PostgresDatabase<'_>) {
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            database.name
        );
        self.psql("postgres", &sql);
    }

    /// Runs a statement, and returns what it gives, one line a row, `|` between columns.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let bin = self.own.as_ref().map_or_else(programs, |own| Some(own.bin.clone()));
        let output = Command::new(bin.unwrap_or_default().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(format!("{}/{database}", self.base))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {said}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

impl PostgresDatabase<'_> {
    /// Runs a statement in it; see [`Postgres::psql`].
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }
}

impl Drop for PostgresDatabase<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server
                .psql("postgres", &format!("drop database if exists {} with (force)", self.name));
        }
    }
}

impl Own {
    fn initialise(&self) {
        let password = self.dir.join("password");
        fs::write(&password, PASSWORD).unwrap();
        if let Some(user) = &self.user {
            chown(&password, Some(user.uid), Some(user.gid)).unwrap();
        }
        let output = Command::new(self.bin.join("initdb"))
            .arg("-D")
            .arg(self.data())
            .args(["-U", USER, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"])
            // An order of texts that is not that of their bytes, as most servers have.
            .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"])
            .arg(format!("--pwfile={}", password.display()))
            .run_as(self.user.as_ref())
            .current_dir(&self.dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb: {said}");
    }

    /// The settings go to the server's file, where a restart finds them.
    fn try_start(&self, settings: &[&str]) -> bool {
        let own = [
            format!("port={}", self.port),
            "listen_addresses='127.0.0.1'".to_owned(),
            // A socket's path has room for little more than a hundred bytes; a test's may be longer.
            "unix_socket_directories=''".to_owned(),
            "max_connections=300".to_owned(),
            // The machine of a test does not lose power.
            "fsync=off".to_owned(),
        ];
        let lines = own.iter().map(String::as_str).chain(settings.iter().copied());
        let file = self.data().join("postgresql.auto.conf");
        fs::write(&file, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        self.pg_ctl(&["-w", "start"]).status.success()
    }

    fn pg_ctl(&self, args: &[&str]) -> Output {
        // The server keeps what it inherits, so that a pipe would never end.
        let log = fs::File::create(self.dir.join("pg_ctl.log")).unwrap();
        let status = Command::new(self.bin.join("pg_ctl"))
            .arg("-D")
            .arg(self.data())
            .arg("-l")
            .arg(self.dir.join("log"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .run_as(self.user.as_ref())
            .current_dir(&self.dir)
            .status()
            .unwrap();
        Output { status, stdout: Vec::new(), stderr: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        format!("{}\n{}", read("pg_ctl.log"), read("log"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a program as somebody else, where that is needed.
trait RunAs {
    fn run_as(&mut self, user: Option<&User>) -> &mut Command;
}

impl RunAs for Command {
    fn run_as(&mut self, user: Option<&User>) -> &mut Command {
        match user {
            Some(user) => self.uid(user.uid.as_raw()).gid(user.gid.as_raw()),
            None => self,
        }
    }
}

/// The user that Debian's package makes, else the one that owns nothing.
fn unprivileged() -> User {
    let found = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).unwrap());
    found.expect("a user to run Postgres as")
}

/// The directory of the latest version's programs.
fn programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    versions.sort_by_key(|path| {
        let name = path.parent().and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().parse::<u32>().unwrap_or(0)
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|dir| ["initdb", "pg_ctl", "psql"].iter().all(|program| dir.join(program).is_file()))
}

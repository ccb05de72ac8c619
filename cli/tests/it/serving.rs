//! A coordinator as people start it, and what commands say to it.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{command, deptune, quickstart, run};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// `deptune serve`, stopped when it is dropped.
struct Serving {
    child: Child,
    data_dir: PathBuf,
    said: PathBuf,
}

impl Serving {
    /// Starts it in a shell that has run `limits`.
    fn start(dir: &Path, limits: &str) -> Serving {
        let (data_dir, said) = (dir.join("coordinator"), dir.join("said"));
        let program = command(dir);
        let mut shell = Command::new("sh");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell
            .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            .stderr(File::create(&said).unwrap());
        let serving = Serving { child: shell.spawn().unwrap(), data_dir, said };
        serving.wait_for("listening on");
        serving
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    fn wait_for(&self, text: &str) {
        let start = Instant::now();
        while !self.said().contains(text) {
            assert!(start.elapsed() < PATIENCE, "'{text}' is not in {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn address(&self) -> String {
        let said = self.said();
        let line = said.lines().find_map(|line| line.strip_prefix("listening on "));
        line.unwrap().trim().to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_coordinator_may_open_as_many_files_as_the_system_allows() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::start(dir.path(), "ulimit -Sn 256; ulimit -Hn 1500");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["1500", "1500"]);
    let warning = "may open 1500 files, and 8192 connections need 8704";
    let said = serving.said();
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    assert!(said.contains("LimitNOFILE="), "{said}");
}

#[test]
fn a_coordinator_without_file_descriptors_waits_for_some() {
    let dir = tempfile::tempdir().unwrap();
    let serving = Serving::start(dir.path(), "ulimit -n 120");
    let address = serving.address();
    let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    serving.wait_for("cannot accept connections for now");
    std::thread::sleep(Duration::from_secs(1));
    let said = serving.said();
    assert_eq!(said.matches("cannot accept connections").count(), 1, "{said}");
    drop(held);
    let ran = run(command(dir.path()).args(["list", "--data-dir"]).arg(&serving.data_dir));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_list_that_is_cut_says_so() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let serving = Serving::start(dir.path(), ":");
    let data_dir = serving.data_dir.to_str().unwrap();
    for _ in 0..3 {
        let ran = deptune(dir.path(), &["submit", "sweep.toml", "--data-dir", data_dir]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let list = |more: &[&str]| {
        let ran =
            deptune(dir.path(), &[&["list", "--data-dir", data_dir, "--json"], more].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        (ran.stdout.lines().count(), ran.stderr)
    };
    let cut = "only the latest 2 sweeps are shown; --limit N shows more\n";
    assert_eq!(list(&["--limit", "2"]), (2, cut.to_owned()));
    for all in [&["--limit", "3"][..], &[]] {
        assert_eq!(list(all), (3, String::new()));
    }
}

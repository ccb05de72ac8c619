//! Exit codes, colours, streams.

use std::process::Stdio;

use super::{command, deptune, quickstart, run};

#[test]
fn wrong_usage_is_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    for args in
        [&["frobnicate"][..], &["best"], &["list", "--statis"], &["best", "3", "--top", "0"]]
    {
        let ran = deptune(dir.path(), args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn no_coordinator_is_exit_3_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let ran = deptune(dir.path(), &["list"]);
    assert_eq!(ran.code, Some(3));
    assert_eq!(
        ran.stderr,
        format!(
            "error: no coordinator is known: --server is not given, and \
             {}/.local/share/deptune/coordinator.json does not exist\n\
             hint: start one with 'deptune serve' or 'deptune up', or name one with --server \
             HOST:PORT\n",
            dir.path().display()
        )
    );
}

#[test]
fn an_address_where_nobody_listens_is_exit_3_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let ran = deptune(dir.path(), &["list", "--server", &address]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("the coordinator cannot be reached (Connection refused"));
    assert!(ran.stderr.contains(&format!("hint: is 'deptune serve' running, and is {address}")));
}

#[test]
fn a_token_file_that_is_not_there_or_holds_no_token_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["list", "--server", "127.0.0.1:1", "--token-file", "token"];
    let ran = deptune(dir.path(), &args);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.starts_with("error: cannot read the token file token\n  caused by: "));
    std::fs::write(dir.path().join("token"), "two words\n").unwrap();
    let ran = deptune(dir.path(), &args);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.starts_with("error: token holds no token"), "{}", ran.stderr);
}

#[test]
fn colours_come_when_asked_for_and_never_into_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let red = "\u{1b}[1;31merror:\u{1b}[0m";
    let said = |args: &[&str]| deptune(dir.path(), args).stderr;
    assert!(said(&["list"]).starts_with("error: "));
    assert!(said(&["list", "--color", "always"]).starts_with(red));
    assert!(said(&["list", "--color", "never"]).starts_with("error: "));
    let ran = run(command(dir.path()).args(["list"]).env("NO_COLOR", "1"));
    assert!(ran.stderr.starts_with("error: "));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let mut child = command(dir.path())
        .args(["plan", "sweep.toml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "");
}

#[test]
fn a_device_that_is_not_here_is_named_as_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let trainer = env!("CARGO_BIN_EXE_deptune");
    for what in [&["plan", "sweep.toml", "--measure"][..], &["train", "sweep.toml"]] {
        let mut command = command(dir.path());
        command.args(what).args(["--device", "cuda", "--trainer", trainer]);
        // Also where the tests' machine has devices.
        let ran = run(command.env("CUDA_VISIBLE_DEVICES", ""));
        assert_eq!(ran.code, Some(2), "{what:?}: {}", ran.stderr);
        let said = "error: --device cuda cannot be used here\n  caused by: no CUDA device is \
                    visible to this process; check `nvidia-smi -L` and CUDA_VISIBLE_DEVICES, or \
                    use --device cpu\n";
        assert!(ran.stderr.ends_with(said), "{what:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

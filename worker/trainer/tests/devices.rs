//! The trainer says what it can compute on, also where there is no CUDA library to load.

use std::process::Command;

#[test]
fn devices_are_one_json_line() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_deptune-trainer")).arg("devices").output().unwrap();
    assert!(output.status.success());
    let devices: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(devices["cuda"].as_u64().is_some(), "{devices}");
}

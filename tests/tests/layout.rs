//! Holds the tree together: which crate may use which, that no file knows the machine it was
//! written on, and that the documents' links lead somewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The packages that each package needs to be built and run, tests' own needs left out.
struct Packages {
    names: BTreeMap<String, String>,
    needs: BTreeMap<String, Vec<String>>,
    members: Vec<String>,
}

impl Packages {
    fn read() -> Packages {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let version = Command::new(&cargo).arg("-vV").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        // Packages for other platforms are not needed and were never downloaded.
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", host])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let names = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let needs = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let needs = list(&node["deps"])
                    .iter()
                    .filter(|need| {
                        list(&need["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev")
                    })
                    .map(|need| text(&need["pkg"]))
                    .collect();
                (text(&node["id"]), needs)
            })
            .collect();
        let members = list(&metadata["workspace_members"]).iter().map(text).collect();
        Packages { names, needs, members }
    }

    fn name(&self, id: &str) -> &str {
        &self.names[id]
    }

    /// Names of everything that the member `name` reaches.
    fn reach(&self, name: &str) -> BTreeSet<&str> {
        let mut waiting = vec![self.member(name)];
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            for need in &self.needs[id] {
                if seen.insert(need.as_str()) {
                    waiting.push(need);
                }
            }
        }
        seen.into_iter().map(|id| self.name(id)).collect()
    }

    /// Our own packages that the member `name` names itself.
    fn own(&self, name: &str) -> BTreeSet<&str> {
        let direct = self.needs[self.member(name)].iter();
        direct.filter(|id| self.members.contains(id)).map(|id| self.name(id)).collect()
    }

    fn member(&self, name: &str) -> &str {
        let found = self.members.iter().find(|id| self.name(id) == name);
        found.unwrap_or_else(|| panic!("no package {name} in the workspace"))
    }
}

#[test]
fn arrows_point_down_only() {
    let packages = Packages::read();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("deptune-sweep", &[] as &[&str]),
        ("deptune-proto", &["deptune-sweep"]),
        ("deptune-coordinator", &["deptune-sweep", "deptune-proto"]),
        ("deptune-hub", &["deptune-sweep"]),
        ("deptune-worker", &["deptune-sweep", "deptune-proto", "deptune-hub"]),
        ("deptune-trainer", &["deptune-sweep", "deptune-proto"]),
        ("deptune-fuzz-targets", &["deptune-sweep", "deptune-proto"]),
        (
            "deptune",
            &[
                "deptune-sweep",
                "deptune-proto",
                "deptune-coordinator",
                "deptune-hub",
                "deptune-worker",
            ],
        ),
        (
            "deptune-tests",
            &["deptune-sweep", "deptune-proto", "deptune-coordinator", "deptune-worker"],
        ),
    ]);
    for id in &packages.members {
        let name = packages.name(id);
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("no rule for package {name}"));
        for own in packages.own(name) {
            assert!(allowed.contains(&own), "{name} may not use {own}");
        }
    }
}

#[test]
fn the_core_is_pure() {
    let packages = Packages::read();
    let reached = packages.reach("deptune-sweep");
    for outside in ["tokio", "tonic", "hyper", "prost", "sqlx", "sqlx-core", "tch", "torch-sys"] {
        assert!(!reached.contains(outside), "deptune-sweep reaches {outside}");
    }
}

#[test]
fn only_the_trainer_reaches_libtorch() {
    let packages = Packages::read();
    for id in &packages.members {
        let name = packages.name(id);
        let reached = packages.reach(name);
        let reaches = reached.contains("tch") || reached.contains("torch-sys");
        assert_eq!(reaches, name == "deptune-trainer", "{name}");
        // So with the driver's library: it is about the process that computes.
        assert_eq!(reached.contains("nvml-wrapper"), name == "deptune-trainer", "{name}");
    }
}

/// The files that belong to the project; `None`, said loudly, in a copy without its history.
fn tracked() -> Option<Vec<PathBuf>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match output {
        Ok(output) if output.status.success() => Some(
            String::from_utf8(output.stdout)
                .unwrap()
                .split('\0')
                .filter(|name| !name.is_empty())
                .map(|name| root().join(name))
                // Removed, not yet committed.
                .filter(|path| path.exists())
                .collect(),
        ),
        _ => {
            eprintln!("SKIPPED: this is no git checkout, so its files are not known");
            None
        }
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let Some(files) = tracked() else { return };
    // Put together here, so that this file passes its own test.
    let places =
        ["/ho|me/", "/ro|ot/", "/Us|ers/", "/wo|rk/", "../sh|ared/"].map(|p| p.replace('|', ""));
    for path in files {
        // Models and traces are no text.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for place in &places {
                let found = line.match_indices(place.as_str()).any(|(at, _)| {
                    // The beginning of a path, not the middle of a longer one.
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}".contains(c))
                });
                assert!(!found, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    let Some(files) = tracked() else { return };
    let mut broken = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(path).unwrap();
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = file.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor)));
            if !found {
                broken.push(format!("{}:{line}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// Lines outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((index + 1, line))
    })
}

/// Targets of `[text](target)` with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // Every second part stands between backticks.
        for part in line.split('`').step_by(2) {
            let targets = part.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            links.extend(targets.map(|(target, _)| {
                (number, target.split_whitespace().next().unwrap_or_default().to_owned())
            }));
        }
    }
    links
}

/// The names under which headings can be linked.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn links_and_anchors_are_found() {
    let text = "# One `two`\nsee [a](b.md#c) and [`d`](e.md), not `[f](g)`\n```\n[h](i)\n```\n";
    let targets: Vec<String> = links(text).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, ["b.md#c", "e.md"]);
    assert_eq!(anchors(text), BTreeSet::from(["one-two".to_owned()]));
}

//! Help teaches: every command says what it is for and shows an example.

use std::path::Path;

use super::deptune;

const COMMANDS: &[&[&str]] = &[
    &["up"],
    &["serve"],
    &["worker"],
    &["check"],
    &["plan"],
    &["submit"],
    &["watch"],
    &["list"],
    &["show"],
    &["best"],
    &["curves"],
    &["logs"],
    &["explain"],
    &["pause"],
    &["resume"],
    &["change"],
    &["retry"],
    &["cancel"],
    &["delete"],
    &["sql"],
    &["export"],
    &["adapter", "get"],
    &["predictions"],
    &["train"],
    &["predict"],
    &["eval"],
    &["backup"],
    &["restore"],
    &["doctor"],
    &["bench", "dispatch"],
    &["bench", "growth"],
];

#[test]
fn every_command_has_an_example_that_names_it() {
    for command in COMMANDS {
        let ran = deptune(Path::new("."), &[command, &["--help"][..]].concat());
        assert_eq!(ran.code, Some(0), "{command:?}");
        let name = format!("deptune {}", command.join(" "));
        let example = ran.stdout.split("Example:\n").nth(1);
        assert!(example.is_some_and(|text| text.contains(&name)), "{}", ran.stdout);
        for global in ["--server", "--token-file", "--data-dir", "--json", "--color", "--verbose"] {
            assert!(ran.stdout.contains(global), "{name} lacks {global}");
        }
    }
}

#[test]
fn the_overview_lists_the_commands_and_the_exit_codes() {
    let ran = deptune(Path::new("."), &["--help"]);
    assert_eq!(ran.code, Some(0));
    for command in COMMANDS {
        assert!(ran.stdout.contains(&format!("\n  {} ", command[0])), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("Exit codes: 0 done, 1 the sweep ended with failed trials"));
}

#[test]
fn the_page_in_docs_names_every_command() {
    let page = include_str!("../../../docs/cli.md");
    for command in COMMANDS {
        let name = format!("`deptune {}", command.join(" "));
        assert!(page.contains(&name), "{name}");
    }
}

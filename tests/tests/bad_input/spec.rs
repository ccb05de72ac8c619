//! Specs that are wrong in themselves.

use deptune_tests::World;

use super::{assert_untouched, refused};

/// One thing that is wrong.
struct Case {
    name: &'static str,
    /// Texts of the valid spec and what stands there instead.
    changes: &'static [(&'static str, &'static str)],
    /// A text on the line that is to be named.
    at: &'static str,
    /// What is said about it, the hint included.
    says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "misspelt-key",
        changes: &[("prompt_lr", "promt_lr")],
        at: "promt_lr",
        says: &["unknown key 'promt_lr' in [space]", "hint: did you mean 'prompt_lr'?"],
    },
    Case {
        name: "negative-rate",
        changes: &[("prompt_lr = [0.3]", "prompt_lr = [0.1, -0.3]")],
        at: "-0.3",
        says: &["space.prompt_lr[1] is -0.3, expected a learning rate: a number more than 0"],
    },
    Case {
        name: "nothing-to-train",
        changes: &[("prompt_length = [8]", "prompt_length = [8, 0]"), ("[24]", "[24, 0]")],
        at: "prompt_length",
        says: &[
            "prompt_length 0 and rank 0 together leave nothing to train",
            "hint: remove 0 from prompt_length or from rank",
        ],
    },
    Case {
        name: "rank-above-length",
        changes: &[("[24]", "[24, 200]")],
        at: "rank = ",
        says: &[
            "rank 200 is more than min(max_length 32, hidden size 192)",
            "hint: give a rank of at most 32",
        ],
    },
    Case {
        name: "rank-above-hidden-size",
        changes: &[("[24]", "[200]"), ("max_length = 32", "max_length = 512")],
        at: "rank = ",
        says: &[
            "rank 200 is more than min(max_length 512, hidden size 192)",
            "hint: give a rank of at most 192",
        ],
    },
    Case {
        name: "no-whole-rank",
        changes: &[("[24]", "{ equal_parameters_to = 40 }"), ("[8]", "[12, 13]")],
        at: "rank = ",
        says: &[
            "equal_parameters_to = 40 gives no whole rank for prompt_length 13 (r = 23.14) with \
             max_length 32 and hidden size 192",
            "hint: the nearest whole pairs (prompt_length, rank) are",
            "(12, 24)",
            "(19, 18)",
            "or allow rounding with rounding = \"nearest\"",
        ],
    },
    Case {
        name: "unknown-task",
        changes: &[
            ("\"opinion\"", "\"sst\""),
            ("template = \"sentiment sentence: {text}\"\n", ""),
            ("label = \"sentiment\"\n", ""),
            ("labels = [\"negative\", \"positive\"]\n", ""),
        ],
        at: "[task]",
        says: &["unknown task 'sst'", "hint: did you mean 'sst2'?", "built-in tasks are"],
    },
    Case {
        name: "keys-of-another-method",
        changes: &[("[space]", "[method]\nkind = \"lora\"\n\n[space]")],
        at: "prompt_lr",
        says: &[
            "'prompt_lr' has no meaning for method 'lora'",
            "hint: remove it, or set kind = \"dept\" or kind = \"pt\" in [method]",
            "'learning_rate' is missing in [space]",
        ],
    },
    Case {
        name: "no-source",
        changes: &[("seeds = [42]", "seeds = [42]\nsource = [\"none\", \"mnli.safetensors\"]")],
        at: "source = ",
        says: &["cannot read the source adapter", "mnli.safetensors", "hint: a source is a"],
    },
    Case {
        name: "source-that-is-none",
        changes: &[("seeds = [42]", "seeds = [42]\nsource = \"model/model.safetensors\"")],
        at: "source = ",
        says: &["model.safetensors is no adapter with a prompt", "hint: a source is a"],
    },
    Case {
        name: "not-enforced-yet",
        changes: &[("[train]", "[limits]\ntrial_hours = 40\n\n[train]")],
        at: "trial_hours",
        says: &["'trial_hours' in [limits] is not supported in this version", "hint: remove"],
    },
    Case {
        name: "search-of-later",
        changes: &[("[train]", "[search]\nkind = \"asha\"\n\n[train]")],
        at: "asha",
        says: &[
            "search.kind = 'asha' is not supported in this version",
            "hint: use kind = \"grid\"",
        ],
    },
];

/// Where a value stands, when it is not at the beginning of its line, is left to the parser's own
/// tests; here the line is what counts.
#[test]
fn a_wrong_spec_is_refused_with_line_and_hint() {
    let world = World::new();
    let coordinator = world.serve();
    for case in CASES {
        let project = case
            .changes
            .iter()
            .fold(world.project(case.name), |project, (old, new)| project.with(old, new));
        // A section's own line, where a whole section is meant.
        let line = match case.name {
            "unknown-task" => project.at("name = \"sst\""),
            _ => project.at(case.at),
        };
        let mut says = case.says.to_vec();
        says.push(&line);
        refused(&world, &project, &[], &says);
    }
    assert_untouched(&world, coordinator);
}

#[test]
fn a_grid_of_a_million_million_points_is_refused_by_arithmetic() {
    let world = World::new();
    let coordinator = world.serve();
    let list = |n: u32| format!("{:?}", (1..=n).collect::<Vec<_>>());
    let (hundred, thousand) = (list(100), list(1000));
    let dropouts = "dropout = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]\n\n[train]";
    let project = world
        .project("large")
        .with("prompt_lr = [0.3]", &format!("prompt_lr = {hundred}"))
        .with("lowrank_lr = [1e-3]", &format!("lowrank_lr = {hundred}"))
        .with("prompt_length = [8]", &format!("prompt_length = {hundred}"))
        .with("rank = [24]", &format!("rank = {hundred}"))
        .with("seeds = [42]", &format!("seeds = {thousand}"))
        .with("[train]", dropouts)
        .with("max_length = 32", "max_length = 128");
    let line = project.at("[space]");
    let says = [
        line.as_str(),
        "the grid has 1,000,000,000,000 trials, at most 1,000,000 are accepted",
        "hint: shorten an axis (prompt_length 100 × rank 100 × prompt_lr 100 × lowrank_lr 100 × \
         dropout 10 × seeds 1000)",
    ];
    refused(&world, &project, &[], &says);
    world.run(&["plan", &project.spec()]).code(2).says(&says);
    assert_untouched(&world, coordinator);
}

#[test]
fn one_check_lists_every_problem() {
    let world = World::new();
    let project = world
        .project("many")
        .with("warmup_steps", "warmup_step")
        .with("{text}", "{body}")
        .with("rank = [24]", "rank = [300]");
    let says = [
        project.at("warmup_step"),
        "hint: did you mean 'warmup_steps'?".to_owned(),
        project.at("template"),
        "column 'body' not found in train.jsonl".to_owned(),
        "columns are: sentiment, text".to_owned(),
        project.at("rank ="),
        "rank 300 is more than".to_owned(),
    ];
    let says: Vec<&str> = says.iter().map(String::as_str).collect();
    let finished = world.run(&["check", &project.spec()]).code(2).says(&says);
    assert!(finished.stderr.contains("3 problems in"), "{finished}");
}

#[test]
fn a_spec_that_is_not_there_or_no_spec_is_named() {
    let world = World::new();
    let missing = world.path("nowhere.toml").display().to_string();
    world.run(&["check", &missing]).code(2).says(&["cannot read", &missing, "hint:"]);
    let project = world.project("cut").with("steps = 6", "steps = [6");
    let says = [project.spec()];
    world.run(&["check", &project.spec()]).code(2).says(&[&says[0], "error:"]);
    world.run(&["check"]).code(2);
    world.run(&["check", &project.spec(), "--no-such-option"]).code(2);
}

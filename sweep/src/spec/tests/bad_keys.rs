//! Keys that are wrong, misplaced, missing, or not built yet.

use super::{expect, problems};

#[test]
fn a_misspelt_key_gets_a_suggestion() {
    expect(
        &[("prompt_lr", "promt_lr")],
        "s.toml:12:1: unknown key 'promt_lr' in [space]\n  \
         hint: did you mean 'prompt_lr'?",
    );
    expect(
        &[("seeds =", "sedes =")],
        "s.toml:16:1: unknown key 'sedes' in [space]\n  hint: did you mean 'seeds'?",
    );
    expect(
        &[("max_length", "max_lenght")],
        "s.toml:20:1: unknown key 'max_lenght' in [train]\n  hint: did you mean 'max_length'?",
    );
}

#[test]
fn an_unknown_section_is_named() {
    expect(
        &[("[train]", "[limit]\nmax_attempts = 3\n[train]")],
        "s.toml:18:2: unknown section [limit]\n  hint: did you mean 'limits'?",
    );
    expect(
        &[("[train]", "[wandb]\nproject = 'x'\n[train]")],
        "s.toml:18:2: unknown section [wandb]\n  hint: known here: name, recipe, model, task, \
         method, space, search, train, objective, limits, requires",
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    expect(
        &[("max_length = 128", "max_length = 128\nseeds = [1]")],
        "s.toml:21:1: unknown key 'seeds' in [train]\n  hint: 'seeds' belongs in [space]",
    );
    expect(
        &[("seeds =", "eval_every = 10\nseeds =")],
        "s.toml:16:1: unknown key 'eval_every' in [space]\n  hint: 'eval_every' belongs in [train]",
    );
    expect(
        &[("[model]", "steps = 5\n[model]")],
        "s.toml:3:1: unknown key 'steps' in the spec\n  hint: 'steps' belongs in [train]",
    );
}

#[test]
fn a_setting_stands_in_one_place() {
    expect(
        &[("seeds =", "steps = [10, 20]\nseeds =")],
        "s.toml:16:1: 'steps' stands in [train] and in [space]\n  \
         hint: keep one of them: [space] if steps varies, else [train]",
    );
}

#[test]
fn missing_keys_and_sections_are_named() {
    expect(
        &[("steps = 2000\n", "")],
        "s.toml:18:2: 'steps' is missing in [train]\n  hint: add, for example, steps = 30000",
    );
    expect(
        &[("[train]\nsteps = 2000\nmax_length = 128\n", "")],
        "s.toml:1:1: section [train] is missing\n  hint: add a section [train]\n\
         s.toml:15:1: equal_parameters_to = 100 gives no whole rank for prompt_length 20 \
         (r = 34.29), prompt_length 40 (r = 25.71) with max_length 256 and hidden size 192\n  \
         hint: the nearest whole pairs (prompt_length, rank) are (16, 36) (23, 33) \
         (37, 27) (44, 24); or allow rounding with rounding = \"nearest\"",
    );
    expect(
        &[("lowrank_lr = [1e-4, 5e-3]\n", "")],
        "s.toml:11:2: 'lowrank_lr' is missing in [space]\n  \
         hint: add, for example, lowrank_lr = [1e-4, 5e-4, 5e-3]",
    );
    expect(
        &[("rank = { equal_parameters_to = 100 }\n", "")],
        "s.toml:11:2: 'rank' is missing in [space]\n  \
         hint: add, for example, rank = { equal_parameters_to = 100 } or rank = [30, 45]",
    );
    expect(
        &[("path = \"models/t5-mini\"\n", "")],
        "s.toml:3:2: 'path' is missing in [model]\n  \
         hint: add, for example, path = \"models/t5-base\"",
    );
    let nothing = super::parse("").unwrap_err().render("s.toml");
    for section in ["model", "task", "space", "train"] {
        assert!(nothing.contains(&format!("section [{section}] is missing")), "{nothing}");
    }
    assert!(nothing.contains("'name' is missing in the spec"), "{nothing}");
}

#[test]
fn what_is_planned_is_refused_by_name() {
    expect(
        &[("[train]", "[search]\nkind = \"asha\"\n[train]")],
        "s.toml:19:8: search.kind = 'asha' is not supported in this version\n  \
         hint: use kind = \"grid\"",
    );
    expect(
        &[("steps = 2000", "steps = 2000\nprecision = \"fp16\"")],
        "s.toml:20:13: train.precision = 'fp16' is not supported in this version\n  \
         hint: use precision = \"fp32\" or precision = \"bf16\"",
    );
    expect(
        &[("[train]", "[limits]\ntrial_hours = 40\n[train]")],
        "s.toml:19:1: 'trial_hours' in [limits] is not supported in this version\n  \
         hint: remove it; bound the sweep by its grid and its steps",
    );
    expect(
        &[("seeds =", "zip = [\"prompt_lr\", \"lowrank_lr\"]\nseeds =")],
        "s.toml:16:1: 'zip' in [space] is not supported in this version\n  \
         hint: list the combinations as separate sweeps",
    );
    expect(
        &[("train = ", "few_shot = 32\ntrain = ")],
        "s.toml:8:1: 'few_shot' in [task] is not supported in this version\n  \
         hint: use k_shot",
    );
    expect(
        &[("steps = 2000", "steps = 2000\ndropout = \"kernel\"")],
        "s.toml:20:11: train.dropout is a rate\n  \
         hint: write dropout_masks = \"kernel\"; dropout = 0.1 gives the rate, and without it the model's own holds",
    );
}

#[test]
fn every_problem_is_listed_in_the_order_of_the_text() {
    let all = problems(&[
        ("\"rte-dept\"", "\"rte dept\""),
        ("prompt_lr", "promt_lr"),
        ("[1e-4, 5e-3]", "[-1e-4, nan]"),
        ("[42, 43, 44]", "[42, 42]"),
        ("steps = 2000", "steps = \"2000\""),
    ]);
    let lines: Vec<&str> = all.lines().filter(|line| line.starts_with("s.toml")).collect();
    assert_eq!(
        lines,
        [
            "s.toml:1:8: 'rte dept' is no name for a sweep",
            "s.toml:12:1: unknown key 'promt_lr' in [space]",
            "s.toml:13:15: space.lowrank_lr[0] is -0.0001, expected a learning rate: a number \
             more than 0, at most 1000",
            "s.toml:13:22: space.lowrank_lr[1] is NaN, expected a learning rate: a number more \
             than 0, at most 1000",
            "s.toml:16:14: space.seeds has 42 twice",
            "s.toml:19:9: train.steps is the string '2000', expected a whole number from 1 to \
             10000000",
        ]
    );
}

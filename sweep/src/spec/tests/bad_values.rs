//! Values that are wrong by themselves or beside others.

use super::{BASE, expect, model, problems, with};
use crate::spec::{Format, Spec};

const RATE: &str = "expected a learning rate: a number more than 0, at most 1000";

#[test]
fn rates_are_positive_finite_and_sane() {
    for (written, shown) in
        [("-0.3", "-0.3"), ("0", "0"), ("nan", "NaN"), ("inf", "inf"), ("1e4", "10000")]
    {
        expect(
            &[("[0.3, 0.4]", &format!("[0.3, {written}]"))],
            &format!("s.toml:12:19: space.prompt_lr[1] is {shown}, {RATE}"),
        );
    }
    expect(
        &[("[0.3, 0.4]", "\"0.3\"")],
        "s.toml:12:13: space.prompt_lr is the string '0.3', expected a learning rate: a number \
         more than 0, at most 1000\n  hint: write it without quotation marks",
    );
}

#[test]
fn wrong_kinds_are_named() {
    expect(
        &[("steps = 2000", "steps = 2e3")],
        "s.toml:19:9: train.steps is 2000, expected a whole number from 1 to 10000000\n  \
         hint: write it without a point or an exponent",
    );
    expect(
        &[("steps = 2000", "steps = [1000, 2000]")],
        "s.toml:19:9: train.steps is a list, expected a whole number from 1 to 10000000\n  \
         hint: one value stands here; axes with several values go in [space]",
    );
    expect(
        &[("[model]\npath = \"models/t5-mini\"", "model = \"t5\"")],
        "s.toml:3:1: 'model' is a string, expected a table\n  hint: write a section [model]",
    );
    expect(
        &[("train = \"RTE/train.jsonl\"", "train = 3")],
        "s.toml:8:9: task.train is 3, expected a string or a list of strings",
    );
    expect(
        &[("rank = { equal_parameters_to = 100 }", "rank = 1979-05-27")],
        "s.toml:15:8: space.rank is a date, expected a whole number, a list of them, or \
         { equal_parameters_to = 100 }",
    );
}

#[test]
fn axes_have_values_and_each_once() {
    expect(
        &[("[20, 40]", "[]")],
        "s.toml:14:17: space.prompt_length is an empty list\n  hint: give at least one value",
    );
    expect(
        &[("[0.3, 0.4]", "[0.3, 0.4, 3e-1]")],
        "s.toml:12:24: space.prompt_lr has 0.3 twice\n  \
         hint: each value stands once; remove the second",
    );
}

#[test]
fn seeds_and_counts_stay_in_range() {
    expect(
        &[("[42, 43, 44]", "[-1]")],
        "s.toml:16:10: space.seeds[0] is -1, expected a whole number from 0 to \
         9223372036854775807",
    );
    expect(
        &[("steps = 2000", "steps = 10000001")],
        "s.toml:19:9: train.steps is 10000001, expected a whole number from 1 to 10000000",
    );
    expect(
        &[("steps = 2000", "steps = 2000\ngradient_accumulation = 0")],
        "s.toml:20:25: train.gradient_accumulation is 0, expected a whole number from 1 to 1024",
    );
    expect(
        &[("steps = 2000", "steps = 2000\ndropout = 1.0")],
        "s.toml:20:11: train.dropout is 1, expected a number from 0 to below 1",
    );
    expect(
        &[("[train]", "[limits]\nmax_attempts = 0\n[train]")],
        "s.toml:19:16: limits.max_attempts is 0, expected a whole number from 1 to 100",
    );
}

#[test]
fn requirements_are_checked() {
    let with = |line: &str| format!("[requires]\n{line}\n[train]");
    let refused = |line: &str, said: &str| {
        expect(&[("[train]", &with(line))], said);
    };
    refused(
        "device = \"gpu\"",
        "s.toml:19:10: requires.device = 'gpu' is not supported in this version\n  \
         hint: write \"cuda\"",
    );
    refused(
        "memory_gb = 0",
        "s.toml:19:13: requires.memory_gb is 0, expected a whole number from 1 to 100000",
    );
    refused(
        "labels = [\"a\", \"b c\"]",
        "s.toml:19:16: requires.labels[1] is no label\n  \
         hint: use letters, digits, '-', '_', '.' and '=', at most 100 of them",
    );
    refused(
        "labels = \"a\"",
        "s.toml:19:10: requires.labels is the string 'a', expected a list of labels",
    );
}

#[test]
fn warm_up_and_evaluation_fit_the_steps() {
    expect(
        &[("steps = 2000", "steps = 2000\nwarmup_steps = 2000")],
        "s.toml:20:16: warmup_steps 2000 is not less than steps 2000\n  \
         hint: warm-up must end before the last step: at most 1999",
    );
    expect(
        &[("steps = 2000", "eval_every = 1001"), ("seeds =", "steps = [1000, 5000]\nseeds =")],
        "s.toml:20:14: eval_every 1001 is more than steps 1000\n  \
         hint: no evaluation would ever happen: at most 1000",
    );
}

#[test]
fn nothing_to_train_is_refused() {
    expect(
        &[("[20, 40]", "[20, 0]"), ("{ equal_parameters_to = 100 }", "[0, 30]")],
        "s.toml:14:22: prompt_length 0 and rank 0 together leave nothing to train\n  \
         hint: remove 0 from prompt_length or from rank",
    );
    expect(
        &[
            ("[space]", "[method]\nkind = \"pt\"\n[space]"),
            ("lowrank_lr = [1e-4, 5e-3]\n", ""),
            ("rank = { equal_parameters_to = 100 }\n", ""),
            ("[20, 40]", "[20, 0]"),
        ],
        "s.toml:15:22: prompt_length 0 with method 'pt' leaves nothing to train\n  \
         hint: give a prompt_length of at least 1",
    );
    expect(
        &[("{ equal_parameters_to = 100 }", "0")],
        "s.toml:13:1: lowrank_lr has no effect: every rank is 0\n  \
         hint: remove lowrank_lr, or give a rank of at least 1",
    );
}

#[test]
fn prompt_tuning_takes_neither_rank_nor_second_rate() {
    expect(
        &[("[space]", "[method]\nkind = \"pt\"\n[space]")],
        "s.toml:15:1: 'lowrank_lr' has no meaning for method 'pt'\n  \
         hint: remove it, or set kind = \"dept\" in [method]\n\
         s.toml:17:1: 'rank' has no meaning for method 'pt'\n  \
         hint: remove it, or set kind = \"dept\" or kind = \"lora\" in [method]",
    );
}

#[test]
fn a_rank_above_min_s_d_is_refused() {
    let changes = [("{ equal_parameters_to = 100 }", "[30, 200]")];
    expect(
        &changes,
        "s.toml:15:13: rank 200 is more than min(max_length 128, hidden size 192)\n  \
         hint: give a rank of at most 128",
    );
    let without_model = Spec::parse(&with(&changes), Format::Toml, None).unwrap_err();
    assert_eq!(
        without_model.render("s.toml"),
        "s.toml:15:13: rank 200 is more than max_length 128\n  hint: give a rank of at most 128"
    );
    expect(
        &[("equal_parameters_to = 100", "equal_parameters_to = 400"), ("[20, 40]", "40")],
        "s.toml:15:1: rank 216 is more than min(max_length 128, hidden size 192)\n  \
         hint: give a rank of at most 128",
    );
}

#[test]
fn an_equal_parameter_rank_must_be_whole() {
    expect(
        &[("[20, 40]", "[20, 21]")],
        "s.toml:15:1: equal_parameters_to = 100 gives no whole rank for prompt_length 21 \
         (r = 47.40) with max_length 128 and hidden size 192\n  \
         hint: the nearest whole pairs (prompt_length, rank) are (20, 48) (25, 45); or allow \
         rounding with rounding = \"nearest\"",
    );
    expect(
        &[("= 100 }", "= 1 }"), ("[20, 40]", "0")],
        "s.toml:15:1: equal_parameters_to = 1 gives no whole rank for prompt_length 0 (r = 0.60) \
         with max_length 128 and hidden size 192\n  \
         hint: no pair of whole numbers lies on this line; or allow rounding with \
         rounding = \"nearest\"",
    );
}

#[test]
fn an_equal_parameter_rank_needs_the_model() {
    let error = Spec::parse(super::BASE, Format::Toml, None).unwrap_err();
    assert_eq!(
        error.render("s.toml"),
        "s.toml:15:1: equal_parameters_to needs the model's config.json\n  \
         hint: check model.path, or give the file with --model-config"
    );
    expect(
        &[("[20, 40]", "[20, 120]")],
        "s.toml:14:22: prompt_length 120 alone has more parameters than equal_parameters_to = 100\n  \
         hint: give a prompt_length of at most 100",
    );
    expect(
        &[("equal_parameters_to", "equal_parameters")],
        "s.toml:15:10: unknown key 'equal_parameters' in [space.rank]\n  \
         hint: did you mean 'equal_parameters_to'?",
    );
    expect(
        &[("= 100 }", "= 100, rounding = \"up\" }")],
        "s.toml:15:48: unknown space.rank.rounding 'up'\n  hint: possible values: exact, nearest",
    );
}

#[test]
fn a_grid_too_large_is_refused_by_arithmetic() {
    let list = |n: u32| format!("{:?}", (1..=n).collect::<Vec<_>>());
    let (hundred, thousand) = (list(100), list(1000));
    let changes = [
        ("[0.3, 0.4]", hundred.as_str()),
        ("[1e-4, 5e-3]", hundred.as_str()),
        ("[20, 40]", hundred.as_str()),
        ("{ equal_parameters_to = 100 }", hundred.as_str()),
        ("[42, 43, 44]", thousand.as_str()),
        ("[train]", "dropout = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]\n[train]"),
    ];
    expect(
        &changes,
        "s.toml:11:2: the grid has 1,000,000,000,000 trials, at most 1,000,000 are accepted\n  \
         hint: shorten an axis (prompt_length 100 × rank 100 × prompt_lr 100 × lowrank_lr 100 × \
         dropout 10 × seeds 1000)",
    );
    // 2,000 values on each of ten axes: far more than 2^64.
    let many = list(2000);
    let rates = format!("{:?}", (1..=2000).map(|n| f64::from(n) / 2001.0).collect::<Vec<_>>());
    let steps = format!("{:?}", (5000..7000).collect::<Vec<u32>>());
    let text = with(&[
        ("[0.3, 0.4]", rates.as_str()),
        ("[1e-4, 5e-3]", rates.as_str()),
        ("[20, 40]", many.as_str()),
        ("{ equal_parameters_to = 100 }", many.as_str()),
        ("[42, 43, 44]", many.as_str()),
        ("steps = 2000\nmax_length = 128\n", ""),
        (
            "[train]",
            &format!(
                "steps = {steps}\nbatch_size = {many}\nmax_length = {many}\n\
                 warmup_steps = {many}\ndropout = {rates}\n[train]"
            ),
        ),
    ]);
    let error = super::parse(&text).unwrap_err();
    let message = "the grid has 1,024,000,000,000,000,000,000,000,000,000,000 trials";
    assert!(error.0[0].message.starts_with(message), "{error}");
}

#[test]
fn names_are_plain() {
    expect(
        &[("\"rte-dept\"", "\"../../etc\"")],
        "s.toml:1:8: '../../etc' is no name for a sweep\n  \
         hint: use letters, digits, '-', '_' and '.', at most 100 of them",
    );
    expect(&[("\"rte-dept\"", "\"\"")], "s.toml:1:8: name is empty\n  hint: give a text");
}

#[test]
fn tasks_are_checked_with_their_lines() {
    let unknown = problems(&[("\"rte\"", "\"rt\"")]);
    assert!(
        unknown.starts_with(
            "s.toml:7:1: unknown task 'rt'\n  hint: did you mean 'rte'? built-in tasks are "
        ),
        "{unknown}"
    );
    expect(
        &[("train = ", "columns = { sentense1 = \"s1\" }\nmetrics = [\"acuracy\"]\ntrain = ")],
        "s.toml:8:13: columns.sentense1 is not used by task 'rte'\n  \
         hint: did you mean 'sentence1'? its fields are sentence1, sentence2, label\n\
         s.toml:9:1: the metrics of task 'rte' cannot be read: unknown metric 'acuracy', did you \
         mean 'accuracy'?\n  hint: metrics are accuracy, f1, matthews_correlation, pearson, \
         spearmanr, f1_multiclass, em, token_f1, group_em",
    );
    expect(
        &[("name = \"rte\"", "name = \"mine\"\nlabel = \"y\"")],
        "s.toml:6:2: task 'mine' needs 'template', for example template = \"review: {text}\"",
    );
    expect(
        &[("train = ", "template = \"x: {y}\"\ntrain = ")],
        "s.toml:8:1: task 'rte' is built in and has its own 'template'\n  \
         hint: leave 'template' out, or give the task another name",
    );
    expect(
        &[("name = \"rte\"", "name = \"mine\"\nlabel = \"y\"\ntemplate = \"review: {text\"")],
        "s.toml:9:1: the template of task 'mine' cannot be read: the '{' at character 9 is never \
         closed\n  hint: write '{{' for a brace in the text",
    );
}

#[test]
fn the_objective_is_one_of_the_tasks_metrics() {
    expect(
        &[("[train]", "[objective]\nmetric = \"acuracy\"\n[train]")],
        "s.toml:19:10: objective.metric 'acuracy' is not among this task's metrics\n  \
         hint: did you mean 'accuracy'?",
    );
    expect(
        &[("[train]", "[objective]\nmetric = \"pearson\"\ngoal = \"max\"\n[train]")],
        "s.toml:19:10: objective.metric 'pearson' is not among this task's metrics\n  \
         hint: possible values: accuracy\n\
         s.toml:20:8: unknown objective.goal 'max'\n  \
         hint: possible values: maximize, minimize",
    );
}

#[test]
fn hidden_sizes_make_different_lines() {
    let text = with(&[("[20, 40]", "[20, 40, 60, 80]"), ("max_length = 128", "")]);
    assert!(Spec::parse(&text, Format::Toml, Some(&model(768))).is_ok());
    assert!(Spec::parse(&text, Format::Toml, Some(&model(512))).is_err());
}

#[test]
fn a_decoders_positions_must_hold_prompt_text_and_answer() {
    let gpt2 = |positions: u32| {
        let text = format!(
            r#"{{"model_type":"gpt2","n_embd":192,"n_head":3,"n_layer":1,"vocab_size":8064,
                "eos_token_id":0,"n_positions":{positions}}}"#
        );
        crate::model::ModelConfig::parse("config.json", &text).unwrap()
    };
    Spec::parse(BASE, Format::Toml, Some(&gpt2(169))).unwrap();
    let problems = Spec::parse(BASE, Format::Toml, Some(&gpt2(168))).unwrap_err();
    assert_eq!(
        problems.render("s.toml"),
        "s.toml:14:22: prompt_length 40 and max_length 128 leave no room for an answer: GPT-2 has \
         168 positions\n  hint: give a prompt_length of at most 39, or lower max_length"
    );
}

//! Valid specs.

use super::{BASE, model, parse, with};
use crate::metric::MetricKind;
use crate::space::{Ranks, Rounding};
use crate::spec::{Format, Goal, Limits, Method, Precision, Spec};
use crate::task::Recipe;

#[test]
fn defaults_are_the_documented_ones() {
    let spec = parse(BASE).unwrap();
    assert_eq!(spec.name, "rte-dept");
    assert_eq!(spec.recipe, Recipe::Default);
    assert_eq!(spec.method, Method::Dept);
    assert_eq!(spec.objective.metric, MetricKind::Accuracy);
    assert_eq!(spec.objective.goal, Goal::Maximize);
    assert_eq!(
        spec.limits,
        Limits {
            max_attempts: 3,
            max_parallel: None,
            max_pack: None,
            priority: 0,
            weight: 1,
            budget: None
        }
    );
    let train = &spec.train;
    assert_eq!((train.steps, train.warmup_steps, train.eval_every), (2000, 200, 1000));
    assert_eq!((train.batch_size, train.eval_batch_size, train.max_length), (32, 32, 128));
    assert_eq!((train.gradient_accumulation, train.dropout), (1, None));
    assert_eq!((train.max_grad_norm, train.precision), (1.0, Precision::Fp32));
    assert_eq!(spec.total(), 2 * 2 * 2 * 3);
    assert_eq!(spec.configurations(), 8);
    let rank = Ranks::EqualParameters { to: 100, hidden: 192, rounding: Rounding::Exact };
    assert_eq!(spec.space.rank, rank);
}

#[test]
fn seeds_fall_back_to_the_recorded_runs_seed() {
    let spec = parse(&with(&[("seeds = [42, 43, 44]\n", "")])).unwrap();
    assert_eq!(spec.space.seeds, [42]);
}

#[test]
fn json_with_the_same_keys_is_the_same_spec() {
    let value: toml::Value = toml::from_str(BASE).unwrap();
    let json = serde_json::to_string_pretty(&value).unwrap();
    let spec = Spec::parse(&json, Format::Json, Some(&model(192))).unwrap();
    assert_eq!(spec, parse(BASE).unwrap());
}

#[test]
fn a_scalar_is_an_axis_of_one() {
    let spec = parse(&with(&[
        ("prompt_lr = [0.3, 0.4]", "prompt_lr = 1"),
        ("prompt_length = [20, 40]", "prompt_length = 20"),
        ("rank = { equal_parameters_to = 100 }", "rank = 48"),
        ("seeds = [42, 43, 44]", "seeds = 7"),
    ]))
    .unwrap();
    assert_eq!(spec.total(), 2);
    let settings = spec.settings(1).unwrap();
    assert_eq!((settings.prompt_length, settings.rank, settings.seed), (20, 48, 7));
    assert_eq!((settings.prompt_lr, settings.lowrank_lr), (Some(1.0), Some(5e-3)));
}

#[test]
fn prompt_tuning_has_neither_rank_nor_second_rate() {
    let spec = parse(&with(&[
        ("[space]", "[method]\nkind = \"pt\"\n[space]"),
        ("lowrank_lr = [1e-4, 5e-3]\n", ""),
        ("rank = { equal_parameters_to = 100 }\n", ""),
    ]))
    .unwrap();
    assert_eq!(spec.total(), 12);
    let settings = spec.settings(0).unwrap();
    assert_eq!((settings.rank, settings.lowrank_lr), (0, None));
}

#[test]
fn training_settings_can_be_axes_and_defaults_follow_them() {
    let spec = parse(&with(&[
        ("steps = 2000\n", ""),
        ("[train]", "steps = [100, 20000]\nbatch_size = [8, 16]\ndropout = [0, 0.1]\n[train]"),
    ]))
    .unwrap();
    assert_eq!(spec.total(), 24 * 8);
    let train = |index| spec.settings(index).unwrap().train;
    let first = train(0);
    assert_eq!((first.steps, first.warmup_steps, first.eval_every), (100, 10, 100));
    assert_eq!((first.batch_size, first.eval_batch_size, first.dropout), (8, 8, Some(0.0)));
    let last = train(spec.total() - 1);
    assert_eq!((last.steps, last.warmup_steps, last.eval_every), (20000, 500, 1000));
    assert_eq!((last.batch_size, last.eval_batch_size, last.dropout), (16, 16, Some(0.1)));
}

#[test]
fn everything_can_be_said() {
    let text = r#"
name = "mine.v1"
recipe = "reference"
[model]
path = "t5"
[task]
name = "reviews"
format = "csv"
train = ["a.csv", "b.csv"]
test = "c.csv"
columns = { text = "body", label = "stars" }
template = "review: {text}"
label = "label"
labels = { "1" = "bad", "5" = "good" }
metrics = ["f1", "accuracy"]
train_limit = 1000
validation_limit = 100
test_limit = 100
header = true
add_prefix = true
[method]
kind = "dept"
[space]
prompt_lr = 0.3
lowrank_lr = 1e-4
prompt_length = 0
rank = [0x10, 3_2]
seeds = 0
max_length = [64, 128]
warmup_steps = [0, 9]
gradient_accumulation = 2
[search]
kind = "grid"
[train]
steps = 10
eval_every = 5
eval_batch_size = 64
max_grad_norm = 0.5
precision = "fp32"
[objective]
metric = "accuracy"
goal = "minimize"
[limits]
max_attempts = 5
max_parallel = 16
max_pack = 4
priority = -2
weight = 3
budget_gpu_hours = 40
"#;
    let spec = parse(text).unwrap();
    assert_eq!(spec.total(), 8);
    assert_eq!(spec.objective.metric, MetricKind::Accuracy);
    assert_eq!(spec.task.columns["text"], "body");
    assert_eq!(
        spec.limits,
        Limits {
            max_attempts: 5,
            max_parallel: Some(16),
            max_pack: Some(4),
            priority: -2,
            weight: 3,
            budget: Some(144_000_000)
        }
    );
    let last = spec.settings(7).unwrap();
    assert_eq!((last.rank, last.train.max_length, last.train.warmup_steps), (32, 128, 9));
}

#[test]
fn rounding_takes_the_nearest_rank() {
    let spec = parse(&with(&[
        ("{ equal_parameters_to = 100 }", "{ equal_parameters_to = 100, rounding = \"nearest\" }"),
        ("[20, 40]", "[21, 40]"),
    ]))
    .unwrap();
    // 79·192 / 320 = 47.4
    assert_eq!(spec.settings(0).unwrap().rank, 47);
}

#[test]
fn settings_have_one_json_form() {
    let spec = parse(BASE).unwrap();
    let settings = spec.settings(5).unwrap();
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::to_string(&spec.settings(5).unwrap()).unwrap(), json);
    assert_eq!(serde_json::from_str::<crate::spec::Settings>(&json).unwrap(), settings);
}

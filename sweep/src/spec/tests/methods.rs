//! Methods other than the first two, starts, optimisers: what is accepted and what is refused.

use super::{BASE, expect, parse, problems, with};
use crate::spec::{
    Decoding, DropoutMasks, Method, Optimizer, Precision, PromptInit, Scheduler, WarmStart,
};

const PROMPT: &str = "prompt_lr = [0.3, 0.4]
lowrank_lr = [1e-4, 5e-3]
prompt_length = [20, 40]
rank = { equal_parameters_to = 100 }
";

/// The base spec with another method and its own axes.
fn method(method: &str, space: &str) -> String {
    with(&[("[space]", &format!("[method]\n{method}\n[space]")), (PROMPT, space)])
}

#[test]
fn lora_has_a_rank_and_one_rate() {
    let spec = parse(&method("kind = \"lora\"", "learning_rate = [1e-4, 3e-4]\nrank = [4, 8]\n"));
    let spec = spec.unwrap();
    assert_eq!((spec.method, spec.total()), (Method::Lora, 12));
    let row = |index| {
        let s = spec.settings(index).unwrap();
        assert_eq!((s.prompt_length, s.prompt_lr, s.lowrank_lr), (0, None, None));
        (s.rank, s.learning_rate, s.lora_alpha, s.seed)
    };
    assert_eq!(row(0), (4, Some(1e-4), Some(8.0), 42));
    assert_eq!(row(3), (4, Some(3e-4), Some(8.0), 42));
    assert_eq!(row(11), (8, Some(3e-4), Some(8.0), 44));
    let text = method("kind = \"lora\"\nlora_alpha = 16", "learning_rate = 1e-4\nrank = 4\n");
    assert_eq!(parse(&text).unwrap().settings(0).unwrap().lora_alpha, Some(16.0));
}

#[test]
fn full_fine_tuning_has_a_rate_alone() {
    let spec = parse(&method("kind = \"full\"", "learning_rate = [1e-5, 1e-4]\n")).unwrap();
    assert_eq!((spec.method, spec.total()), (Method::Full, 6));
    let s = spec.settings(5).unwrap();
    assert_eq!((s.rank, s.learning_rate, s.prompt_lr, s.lora_alpha), (0, Some(1e-4), None, None));
}

#[test]
fn keys_of_other_methods_are_refused() {
    let text = method("kind = \"lora\"\ninit = \"random\"", "rank = 4\nprompt_lr = 0.3\n");
    assert_eq!(
        parse(&text).unwrap_err().render("s.toml"),
        "s.toml:13:1: 'init' has no meaning for method 'lora'\n  \
         hint: remove it, or set kind = \"dept\" or kind = \"pt\" in [method]\n\
         s.toml:14:2: 'learning_rate' is missing in [space]\n  \
         hint: add, for example, learning_rate = [1e-4, 3e-4]\n\
         s.toml:16:1: 'prompt_lr' has no meaning for method 'lora'\n  \
         hint: remove it, or set kind = \"dept\" or kind = \"pt\" in [method]"
    );
    let text = method("kind = \"full\"", "rank = 4\nlearning_rate = 1e-4\nsource = \"a\"\n");
    assert_eq!(
        parse(&text).unwrap_err().render("s.toml"),
        "s.toml:14:1: 'rank' has no meaning for method 'full'\n  \
         hint: remove it, or set kind = \"dept\" or kind = \"lora\" in [method]\n\
         s.toml:16:1: 'source' has no meaning for method 'full'\n  \
         hint: remove it, or set kind = \"dept\" or kind = \"pt\" in [method]"
    );
    expect(
        &[("seeds =", "learning_rate = 1e-4\nseeds =")],
        "s.toml:16:1: 'learning_rate' has no meaning for method 'dept'\n  \
         hint: remove it, or set kind = \"lora\" or kind = \"full\" in [method]",
    );
    expect(
        &[("[space]", "[method]\nlora_alpha = 4\n[space]")],
        "s.toml:12:1: 'lora_alpha' has no meaning for method 'dept'\n  \
         hint: remove it, or set kind = \"lora\" in [method]",
    );
}

#[test]
fn ranks_of_lora_fit_the_model() {
    let text = method("kind = \"lora\"", "learning_rate = 1e-4\nrank = [0, 8, 193]\n");
    assert_eq!(
        parse(&text).unwrap_err().render("s.toml"),
        "s.toml:15:9: rank 0 does not fit method 'lora'\n  hint: give a rank from 1 to 192\n\
         s.toml:15:15: rank 193 does not fit method 'lora'\n  hint: give a rank from 1 to 192"
    );
    let text =
        method("kind = \"lora\"", "learning_rate = 1e-4\nrank = { equal_parameters_to = 100 }\n");
    let found = parse(&text).unwrap_err().render("s.toml");
    assert!(found.contains("equal_parameters_to has no meaning for method 'lora'"), "{found}");
}

#[test]
fn dept_may_have_one_rate() {
    let spec = parse(&with(&[("[1e-4, 5e-3]", "\"prompt_lr\"")])).unwrap();
    assert_eq!(spec.total(), 2 * 2 * 3);
    for index in 0..spec.total() {
        let s = spec.settings(index).unwrap();
        assert_eq!(s.lowrank_lr, s.prompt_lr);
    }
    expect(
        &[("[1e-4, 5e-3]", "\"prompt\"")],
        "s.toml:13:14: space.lowrank_lr is the string 'prompt', expected learning rates, or \
         \"prompt_lr\" for the prompt's own",
    );
}

#[test]
fn sources_are_the_slowest_axis() {
    let sources = "source = [\"none\", \"mnli.safetensors\"]\nseeds =";
    let spec = parse(&with(&[("seeds =", sources)])).unwrap();
    let old = parse(BASE).unwrap();
    assert_eq!(spec.total(), 2 * old.total());
    for index in 0..old.total() {
        // Where there is no source, the grid is the one without the axis.
        assert_eq!(spec.settings(index), old.settings(index));
        let warm = spec.settings(old.total() + index).unwrap();
        assert_eq!(warm.source.as_deref(), Some("mnli.safetensors"));
        assert_eq!(warm.warm_start, WarmStart::All);
        assert_eq!(Some(warm.seed), old.settings(index).map(|s| s.seed));
    }
    expect(
        &[("seeds =", "source = [\"a\", \"a\"]\nseeds =")],
        "s.toml:16:16: space.source has a twice\n  hint: each value stands once; remove the second",
    );
}

#[test]
fn a_start_without_effect_is_refused() {
    expect(
        &[("[space]", "[method]\nwarm_start = \"prompt\"\n[space]")],
        "s.toml:12:1: warm_start has no effect: no trial starts from a source adapter\n  \
         hint: remove it, or add source = [\"adapter.safetensors\"] to [space]",
    );
    expect(
        &[
            ("[space]", "[method]\ninit = \"vocabulary\"\n[space]"),
            ("seeds =", "source = \"a\"\nseeds ="),
        ],
        "s.toml:12:1: init has no effect: every trial starts from a source adapter\n  \
         hint: remove it, or add \"none\" to source in [space]",
    );
    expect(
        &[("[space]", "[method]\ninit = \"random\"\ninit_text = \"classify\"\n[space]")],
        "s.toml:13:1: init_text has no effect with init = \"random\"\n  \
         hint: remove one of the two",
    );
    expect(
        &[("[space]", "[method]\ninit = \"vocab\"\n[space]")],
        "s.toml:12:8: unknown method.init 'vocab'\n  \
         hint: possible values: text, vocabulary, random",
    );
}

#[test]
fn training_choices_are_read() {
    let text = with(&[
        ("[space]", "[method]\ninit = \"text\"\ninit_text = \"yes or no\"\n[space]"),
        (
            "max_length = 128",
            "max_length = 128\noptimizer = \"adafactor\"\nscheduler = \"cosine\"\n\
             weight_decay = 0.01\npatience = 3\ndecoding = \"labels\"\nsave_predictions = true\n\
             dropout_masks = \"kernel\"\nactivation_checkpointing = true\n\
             precision = \"bf16\"",
        ),
    ]);
    let settings = parse(&text).unwrap().settings(0).unwrap();
    let train = &settings.train;
    assert_eq!((train.optimizer, train.scheduler), (Optimizer::Adafactor, Scheduler::Cosine));
    assert_eq!((train.weight_decay, train.patience), (0.01, Some(3)));
    assert_eq!((train.decoding, train.save_predictions), (Decoding::Labels, true));
    assert_eq!((train.dropout_masks, train.activation_checkpointing), (DropoutMasks::Kernel, true));
    assert_eq!(train.precision, Precision::Bf16);
    assert_eq!(settings.init, PromptInit::Text);
    assert_eq!(settings.init_text.as_deref(), Some("yes or no"));
    let old = parse(BASE).unwrap().settings(0).unwrap();
    assert_eq!((old.train.optimizer, old.train.patience), (Optimizer::AdamW, None));
}

#[test]
fn training_choices_out_of_range_are_named() {
    let found = problems(&[(
        "max_length = 128",
        "max_length = 128\noptimizer = \"adam\"\nweight_decay = -1\npatience = 0\n\
         save_predictions = \"yes\"",
    )]);
    assert_eq!(
        found,
        "s.toml:21:13: unknown train.optimizer 'adam'\n  hint: did you mean 'adamw'?\n\
         s.toml:22:16: train.weight_decay is -1, expected a number from 0 to 10\n\
         s.toml:23:12: train.patience is 0, expected a whole number from 1 to 1000000\n\
         s.toml:24:20: train.save_predictions is the string 'yes', expected true or false"
    );
    let text = method("kind = \"full\"", "learning_rate = 1e-4\n")
        .replace("max_length = 128", "max_length = 128\noptimizer = \"adafactor\"");
    let found = parse(&text).unwrap_err().render("s.toml");
    assert!(found.contains("optimizer 'adafactor' does not fit method 'full'"), "{found}");
}

#[test]
fn labels_are_scored_only_where_they_are_known() {
    expect(
        &[
            ("name = \"rte\"\n", "name = \"nq\"\n"),
            ("max_length = 128", "max_length = 128\ndecoding = \"labels\""),
        ],
        "s.toml:21:12: decoding 'labels' needs known labels; task 'nq' has none\n  \
         hint: use decoding = \"greedy\", or give 'labels' in [task]",
    );
}

#[test]
fn few_shot_settings_stand_in_the_task() {
    let few = "name = \"rte\"\nk_shot = 16\nk_shot_sampling = \"reference\"\n";
    let spec = parse(&with(&[("name = \"rte\"\n", few)])).unwrap();
    assert_eq!(spec.task.k_shot, Some(16));
    let found = problems(&[("name = \"rte\"\n", "name = \"rte\"\nk_shot = 1\n")]);
    assert!(found.starts_with("s.toml:8:1: 'k_shot' of task 'rte' is no use"), "{found}");
    expect(
        &[("name = \"rte\"\n", "name = \"rte\"\nk_shot = 16\nk_shot_sampling = \"even\"\n")],
        "s.toml:9:19: unknown task.k_shot_sampling 'even'\n  \
         hint: possible values: balanced, reference",
    );
}

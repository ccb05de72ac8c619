//! What must hold of a pack beyond the reference's traces: resuming bit for bit, independence
//! of masks from padding, grouping and pack, exact gradients, divergence that stays at home.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use deptune_sweep::spec::DropoutMasks;
use deptune_sweep::task::Recipe;
use deptune_trainer::weights::Weights;
use deptune_trainer::{
    Adapter, Backward, Batch, Checkpoint, Example, Identity, LowRank, Member, Method, Model, Pack,
    Padding, Settings,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const INIT: [i64; 4] = [271, 48, 19, 1];
const DEPT: Method = Method::Dept { prompt_length: 4, rank: 3 };

fn model(name: &str, kind: Kind) -> Rc<Model> {
    tch::set_num_threads(1);
    Rc::new(Model::load(&directory(name), kind, Device::Cpu).unwrap())
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name)
}

fn settings() -> Settings {
    Settings {
        steps: 20,
        warmup_steps: 2,
        max_length: 32,
        grad_clip: 1.0,
        dropout: 0.1,
        padding: Padding::Longest { multiple: 1 },
        recipe: Recipe::Default,
        groups: 1,
        ..Settings::default()
    }
}

fn member(method: Method, seed: u64) -> Member {
    Member::prompt(method, 0.3, 5e-3, seed)
}

/// Rows of different lengths, different in every step.
fn batch(step: i64) -> Batch {
    let row = |row: i64| {
        let length = 3 + (row * 7 + step) % 25;
        let input_ids = (0..length).map(|i| 2 + (i * i * 31 + row * 17 + step * 5) % 380);
        let labels = if row % 3 == 0 { vec![5 + row, 9, 1] } else { vec![7 + step, 1] };
        Example { input_ids: input_ids.collect(), labels }
    };
    Batch { examples: (0..6).map(row).collect() }
}

fn train(pack: &mut Pack, steps: std::ops::RangeInclusive<i64>) -> Vec<Vec<f64>> {
    let losses = |step| {
        let report = pack.step(&[batch(step)]).unwrap();
        report.trials.iter().map(|trial| trial.loss).collect()
    };
    steps.map(losses).collect()
}

fn bytes(pack: &Pack, k: usize) -> Vec<u8> {
    let identity = Identity {
        settings_hash: "s".to_owned(),
        data_hash: "d".to_owned(),
        model_hash: "m".to_owned(),
    };
    let state = pack.state(k).unwrap();
    Checkpoint { state, best: None, identity, counters: Value::Null }.to_bytes().unwrap()
}

fn difference(one: &Adapter, other: &Adapter) -> f64 {
    let pairs = one.named().zip(other.named());
    let largest = pairs.map(|((_, a), (_, b))| (a - b).abs().max().double_value(&[]));
    largest.fold(0.0, f64::max)
}

fn assert_close(one: &[Vec<f64>], other: &[Vec<f64>], relative: f64) {
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().flatten().zip(other.iter().flatten()) {
        assert!((a - b).abs() <= relative * a.abs(), "{a} and {b}");
    }
}

#[test]
fn a_resumed_run_equals_an_unbroken_one_bit_for_bit() {
    let model = model("t5_v10", Kind::Float);
    let members = vec![
        member(DEPT, 42),
        Member { prompt_lr: 0.5, ..member(Method::PromptTuning { prompt_length: 6 }, 42) },
    ];
    let fresh = || Pack::new(model.clone(), members.clone(), settings(), &INIT).unwrap();
    let mut straight = fresh();
    let losses = train(&mut straight, 1..=10);

    let mut first = fresh();
    train(&mut first, 1..=5);
    let files: Vec<Vec<u8>> = (0..2).map(|k| bytes(&first, k)).collect();
    drop(first);
    let identity = Checkpoint::from_bytes(
        &files[0],
        &Identity {
            settings_hash: "s".to_owned(),
            data_hash: "d".to_owned(),
            model_hash: "m".to_owned(),
        },
    )
    .unwrap()
    .identity;
    let states: Vec<_> =
        files.iter().map(|file| Checkpoint::from_bytes(file, &identity).unwrap().state).collect();
    let mut second = fresh();
    second.resume(&states).unwrap();
    assert_eq!(second.steps_done(), 5);
    assert_eq!(train(&mut second, 6..=10), losses[5..]);
    for k in 0..2 {
        assert_eq!(bytes(&second, k), bytes(&straight, k), "trial {k}");
    }
}

#[test]
fn dropout_leaves_no_trace_of_padding_grouping_or_pack() {
    let model = model("t5_v11", Kind::Double);
    let run = |members: Vec<Member>, settings: Settings| {
        let mut pack = Pack::new(model.clone(), members, settings, &INIT).unwrap();
        train(&mut pack, 1..=6)
    };
    let solo = run(vec![member(DEPT, 42)], settings());
    let padded = Settings { padding: Padding::MaxLength, ..settings() };
    assert_close(&solo, &run(vec![member(DEPT, 42)], padded), 1e-9);
    let grouped = Settings { groups: 3, padding: Padding::Longest { multiple: 4 }, ..settings() };
    assert_close(&solo, &run(vec![member(DEPT, 42)], grouped), 1e-9);

    let other = Member { prompt_lr: 0.1, ..member(Method::Dept { prompt_length: 9, rank: 5 }, 42) };
    let packed = run(vec![other, member(DEPT, 42)], settings());
    let second: Vec<Vec<f64>> = packed.iter().map(|step| vec![step[1]]).collect();
    assert_close(&solo, &second, 1e-9);
    // Trials of other seeds have masks of their own.
    let packed = run(vec![member(DEPT, 7), member(DEPT, 42)], settings());
    let second: Vec<Vec<f64>> = packed.iter().map(|step| vec![step[1]]).collect();
    assert_close(&solo, &second, 1e-9);
    assert!((packed[0][0] - packed[0][1]).abs() > 1e-6, "two seeds, one mask");

    let still = run(vec![member(DEPT, 42)], Settings { dropout: 0.0, ..settings() });
    assert!((still[0][0] - solo[0][0]).abs() > 1e-6, "no dropout at all");
}

#[test]
fn accumulated_micro_batches_see_the_masks_of_their_rows() {
    let model = model("t5_v10", Kind::Double);
    let pack = Pack::new(model, vec![member(DEPT, 42)], settings(), &INIT).unwrap();
    // Equal numbers of label tokens per half, so that the mean of means is the mean.
    let mut whole = batch(1);
    whole.examples.iter_mut().for_each(|example| example.labels = vec![8, 1]);
    let halves: Vec<Batch> =
        whole.examples.chunks(3).map(|rows| Batch { examples: rows.to_vec() }).collect();
    let together = pack.gradients(&[whole]).unwrap().trial(0).unwrap();
    let apart = pack.gradients(&halves).unwrap().trial(0).unwrap();
    assert!(difference(&together, &apart) < 1e-12);
}

#[test]
fn gradients_are_those_of_the_loss() {
    for name in ["t5_v10", "t5_v11"] {
        let model = model(name, Kind::Double);
        let settings = Settings { dropout: 0.0, ..settings() };
        let mut pack = Pack::new(model, vec![member(DEPT, 42)], settings, &INIT).unwrap();
        let start = pack.parameters(0).unwrap();
        let lowrank = start.lowrank().unwrap();
        // At the start B is zero, and with it A's gradient. The numbers are such that no difference
        // below meets a kink of relu.
        let b = noise(&lowrank.b.size(), 7) - 0.5;
        let a = lowrank.a;
        let prompt = start.prompt().map(Tensor::shallow_clone);
        let start = Adapter::dept(prompt, Some(LowRank { a, b }));
        pack.set_parameters(0, &start).unwrap();
        let batch = batch(3);
        let gradients = pack.gradients(std::slice::from_ref(&batch)).unwrap().trial(0).unwrap();
        for (part, (key, gradient)) in gradients.named().enumerate() {
            for place in [[0, 0], [2, 1], [1, 2]] {
                let mut loss_at = |step: f64| {
                    pack.set_parameters(0, &start).unwrap();
                    let moved = pack.parameters(0).unwrap();
                    let (_, tensor) = moved.named().nth(part).unwrap();
                    let mut element = tensor.get(place[0]).get(place[1]);
                    let _ = element.g_add_scalar_(step);
                    pack.set_parameters(0, &moved).unwrap();
                    pack.eval_loss(&batch).unwrap()[0]
                };
                let step = 1e-5;
                let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
                let found = gradient.double_value(&place);
                let error = (found - slope).abs();
                assert!(error < 1e-8, "{name} {key} {place:?}: {found} for {slope}");
            }
        }
    }
}

#[test]
fn a_zero_offset_is_prompt_tuning() {
    let model = model("t5_v10", Kind::Float);
    let members = vec![member(DEPT, 42), member(Method::PromptTuning { prompt_length: 4 }, 42)];
    let pack = Pack::new(model, members, settings(), &INIT).unwrap();
    let losses = pack.eval_loss(&batch(1)).unwrap();
    assert_eq!(losses[0], losses[1]);
}

#[test]
fn a_diverging_trial_stands_still_and_harms_no_other() {
    let model = model("t5_v10", Kind::Float);
    let solo = {
        let members = vec![member(DEPT, 42)];
        let mut pack = Pack::new(model.clone(), members, settings(), &INIT).unwrap();
        train(&mut pack, 1..=8)
    };
    let members = vec![Member { prompt_lr: 1e38, ..member(DEPT, 42) }, member(DEPT, 42)];
    let mut pack = Pack::new(model, members, settings(), &INIT).unwrap();
    let mut healthy = Vec::new();
    let mut frozen: Option<Vec<u8>> = None;
    for step in 1..=8 {
        let report = pack.step(&[batch(step)]).unwrap();
        healthy.push(vec![report.trials[1].loss]);
        assert!(!report.trials[1].diverged);
        if report.trials[0].diverged {
            let parameters = pack.parameters(0).unwrap().to_bytes().unwrap();
            assert_eq!(*frozen.get_or_insert(parameters.clone()), parameters, "step {step}");
        }
    }
    assert!(frozen.is_some(), "a rate of 1e38 must diverge");
    assert!(pack.state(0).unwrap().diverged && !pack.state(1).unwrap().diverged);
    assert_close(&solo, &healthy, 1e-5);
}

#[test]
fn reports_that_wait_say_what_those_of_every_update_say() {
    let model = model("t5_v10", Kind::Float);
    let wild = Member { prompt_lr: 1e38, ..member(DEPT, 42) };
    let members = vec![wild, member(DEPT, 42)];
    let pack = || Pack::new(model.clone(), members.clone(), settings(), &INIT).unwrap();
    let (mut one, mut other) = (pack(), pack());
    let each: Vec<_> = (1..=6).map(|step| one.step(&[batch(step)]).unwrap()).collect();
    (1..=6).for_each(|step| other.advance(&[batch(step)]).unwrap());
    // One that has diverged may have lost its loss to NaN, which equals nothing.
    assert_eq!(format!("{:?}", other.reports().unwrap()), format!("{each:?}"));
    assert!(each[5].trials[0].diverged && !each[5].trials[1].diverged);
    assert!(other.reports().unwrap().is_empty(), "they are read once");
    assert_eq!(bytes(&one, 1), bytes(&other, 1));
}

/// Held by whoever uses libtorch's own random numbers, which are the process's.
static GENERATOR: Mutex<()> = Mutex::new(());

/// One update's losses and gradients, recorded.
fn recorded(
    name: &str,
    model: &Rc<Model>,
    members: &[Member],
    settings: Settings,
) -> (Vec<f64>, Vec<Adapter>) {
    let settings = Settings { backward: Backward::Recorded, grad_clip: 1e9, ..settings };
    let mut pack = match members {
        [full] if full.method == Method::Full => {
            let weights = Weights::open(&directory(name), model.kind(), Device::Cpu).unwrap();
            let config = model.config().clone();
            Pack::fine_tuning(config, &weights, *full, settings).unwrap()
        }
        _ => Pack::new(model.clone(), members.to_vec(), settings, &INIT).unwrap(),
    };
    let batches = [batch(1), batch(2)];
    let gradients = pack.gradients(&batches).unwrap();
    let all = (0..members.len()).map(|k| gradients.trial(k).unwrap()).collect();
    let losses = pack.step(&batches).unwrap().trials.iter().map(|trial| trial.loss).collect();
    (losses, all)
}

#[test]
fn what_is_computed_again_is_what_was_computed_first() {
    let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let lora = Method::Lora { rank: 3, alpha: 4.0 };
    let plain = Method::PromptTuning { prompt_length: 6 };
    for (name, methods) in [
        ("t5_v10", vec![DEPT, plain]),
        ("t5_v11", vec![lora, DEPT]),
        ("gpt2", vec![DEPT]),
        ("gpt2", vec![lora]),
        ("t5_v10", vec![Method::Full]),
    ] {
        let model = model(name, Kind::Double);
        let members: Vec<Member> = methods.iter().map(|&method| member(method, 42)).collect();
        for dropout_masks in [DropoutMasks::Exact, DropoutMasks::Kernel] {
            let kept = Settings { groups: 2, dropout_masks, ..settings() };
            let again = Settings { activation_checkpointing: true, ..kept };
            let (losses, gradients) = recorded(name, &model, &members, again);
            if dropout_masks == DropoutMasks::Exact {
                let (expected, kept) = recorded(name, &model, &members, kept);
                assert_eq!(losses, expected, "{name} {methods:?}");
                for (one, other) in gradients.iter().zip(&kept) {
                    assert!(difference(one, other) < 1e-12, "{name} {methods:?}");
                }
            }
            // Drawn again alike, too.
            let (repeated, same) = recorded(name, &model, &members, again);
            assert_eq!(losses, repeated, "{name} {methods:?}");
            for (one, other) in gradients.iter().zip(&same) {
                assert_eq!(difference(one, other), 0.0, "{name} {methods:?}");
            }
        }
    }
}

#[test]
fn gradients_of_masks_that_a_kernel_draws_are_those_of_its_loss() {
    let _guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let model = model("t5_v10", Kind::Double);
    let kernel = Settings { dropout_masks: DropoutMasks::Kernel, ..settings() };
    for settings in [kernel, Settings { activation_checkpointing: true, ..kernel }] {
        let settings = Settings { backward: Backward::Recorded, ..settings };
        let fresh = || Pack::new(model.clone(), vec![member(DEPT, 7)], settings, &INIT).unwrap();
        let gradient = fresh().gradients(&[batch(1)]).unwrap().trial(0).unwrap();
        let (_, gradient) = gradient.named().next().unwrap();
        let loss = |by: f64| {
            let mut pack = fresh();
            let moved = pack.parameters(0).unwrap();
            let (_, first) = moved.named().next().unwrap();
            let _ = first.get(0).get(0).g_add_scalar_(by);
            pack.set_parameters(0, &moved).unwrap();
            pack.step(&[batch(1)]).unwrap().trials[0].loss
        };
        let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
        let found = gradient.double_value(&[0, 0]);
        assert!((slope - found).abs() < 1e-6 * slope.abs().max(1e-3), "{slope} and {found}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_names() {
    let model = model("t5_v10", Kind::Float);
    let mut pack = Pack::new(model, vec![member(DEPT, 42)], settings(), &INIT).unwrap();
    let mut long = batch(1);
    long.examples[2].input_ids = vec![3; 33];
    let error = pack.step(&[long]).unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("max_length = 32"), "{error}");
    let mut foreign = batch(1);
    foreign.examples[1].labels = vec![384];
    let error = pack.step(&[foreign]).unwrap_err().to_string();
    assert!(error.contains("384") && error.contains("row 1"), "{error}");
    assert!(pack.step(&[]).is_err() && pack.step(&[Batch::default()]).is_err());
    assert_eq!(pack.steps_done(), 0);
    let other = Tensor::zeros([5, 64], (Kind::Float, Device::Cpu));
    let error = pack.set_parameters(0, &Adapter::dept(Some(other), None)).unwrap_err();
    assert!(error.to_string().contains("[5, 64]"), "{error}");
    assert!(pack.parameters(1).is_err());
}

/// Trials of other lengths, ranks and seeds, and one of prompt tuning.
fn mixed() -> Vec<Member> {
    let dept = |prompt_length, rank| Method::Dept { prompt_length, rank };
    vec![
        member(dept(4, 3), 42),
        member(dept(9, 5), 42),
        Member { prompt_lr: 0.1, ..member(dept(4, 2), 7) },
        member(Method::PromptTuning { prompt_length: 6 }, 42),
        member(dept(0, 4), 7),
    ]
}

/// Numbers from 0 to 1, the same ones whatever other tests of this process draw.
fn noise(size: &[i64], seed: u64) -> Tensor {
    let number = |index: u64| {
        // splitmix64
        let mut z = (seed << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let count = size.iter().product::<i64>() as u64;
    let numbers: Vec<f64> = (0..count).map(number).collect();
    Tensor::from_slice(&numbers).reshape(size)
}

/// A pack whose trials have come some way from their start, where A has no gradient.
fn started(model: &Rc<Model>, members: Vec<Member>, settings: Settings, seed: u64) -> Pack {
    let mut pack = Pack::new(model.clone(), members, settings, &INIT).unwrap();
    for k in 0..pack.members().len() {
        let moved = pack.parameters(k).unwrap();
        for (part, (_, tensor)) in moved.named().enumerate() {
            let noise = noise(&tensor.size(), seed * 100 + (k * 3 + part) as u64) * 0.3;
            let _ = tensor.shallow_clone().g_add_(&noise.to_kind(tensor.kind()));
        }
        pack.set_parameters(k, &moved).unwrap();
    }
    pack
}

/// How far apart the written and the recorded gradients of every trial are, by part, in units of
/// the recorded one's norm.
fn gradient_errors(
    model: &Rc<Model>,
    dropout: f64,
    threads: i32,
    micro_batches: i64,
    seed: u64,
) -> Vec<(String, f64)> {
    let batches: Vec<Batch> = (0..micro_batches).map(|i| batch(3 + i)).collect();
    let gradients = |backward| {
        let settings = Settings { dropout, backward, groups: 2, ..settings() };
        let pack = started(model, mixed(), settings, seed);
        tch::set_num_threads(threads);
        let gradients = pack.gradients(&batches).unwrap();
        tch::set_num_threads(1);
        (0..mixed().len()).map(|k| gradients.trial(k).unwrap()).collect::<Vec<_>>()
    };
    let (recorded, written) = (gradients(Backward::Recorded), gradients(Backward::Written));
    let mut errors = Vec::new();
    for (k, (expected, found)) in recorded.iter().zip(&written).enumerate() {
        for ((key, found), (_, expected)) in found.named().zip(expected.named()) {
            let size = expected.norm().double_value(&[]);
            assert!(size > 0.0, "trial {k} {key}: no gradient");
            let error = (found - expected).norm().double_value(&[]);
            errors.push((format!("trial {k} {key}"), error / size));
        }
    }
    errors
}

#[test]
fn written_gradients_are_those_that_libtorch_records() {
    for name in ["t5_v10", "t5_v11"] {
        for (kind, tolerance) in [(Kind::Float, 2e-5_f64), (Kind::BFloat16, 0.06)] {
            for (dropout, threads, micro_batches) in [(0.0, 1, 1), (0.1, 2, 1), (0.1, 3, 2)] {
                let model = model(name, kind);
                let errors = |seed| gradient_errors(&model, dropout, threads, micro_batches, seed);
                // Kernels add in another order. Where that moves an input of relu over its kink,
                // which other processors do elsewhere, one trial's gradient jumps: so of three
                // starts two are within the tolerance, and the third is within such a jump.
                let starts: Vec<_> = (1..=3).map(errors).collect();
                for (part, (what, _)) in starts[0].iter().enumerate() {
                    let mut found: Vec<f64> = starts.iter().map(|s| s[part].1).collect();
                    found.sort_by(f64::total_cmp);
                    let most = if name == "t5_v10" { tolerance.max(0.02) } else { tolerance };
                    assert!(
                        found[1] <= tolerance && found[2] <= most,
                        "{name} {kind:?} dropout {dropout} {what}: {found:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn written_losses_are_those_that_libtorch_records() {
    let model = model("t5_v11", Kind::Float);
    let losses = |backward| {
        let mut pack = started(&model, mixed(), Settings { backward, ..settings() }, 1);
        train(&mut pack, 1..=8)
    };
    assert_close(&losses(Backward::Recorded), &losses(Backward::Written), 1e-5);
}

#[test]
fn evaluations_are_those_of_libtorchs_pass() {
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 0.02)] {
        for threads in [1, 3] {
            let model = model("t5_v11", kind);
            let labels = [vec![7, 1], vec![8, 1], vec![5, 9, 1], vec![8, 9, 1]];
            let of = |backward| {
                tch::set_num_threads(threads);
                let pack = started(&model, mixed(), Settings { backward, ..settings() }, 1);
                let evaluated = pack.evaluate(&batch(0), 5).unwrap();
                let scored = pack.score(&batch(0), &labels).unwrap();
                // Some of them alone: the same but for rounding.
                let some = pack.evaluate_some(&batch(0), 5, &[3, 1]).unwrap();
                let losses = [3, 1].map(|k: usize| evaluated.loss_sums[k]).to_vec();
                assert_close(&[losses], &[some.loss_sums], tolerance);
                let back = pack.evaluate_some(&batch(0), 5, &[4, 3, 2, 1, 0]).unwrap();
                let turned = evaluated.loss_sums.iter().rev().copied().collect();
                assert_close(&[turned], &[back.loss_sums], tolerance);
                let few = pack.score_some(&batch(0), &labels, &[4]).unwrap();
                assert_close(&scored.scores[4], &few.scores[0], tolerance);
                assert!(pack.evaluate_some(&batch(0), 5, &[5]).is_err());
                tch::set_num_threads(1);
                (evaluated, scored)
            };
            let (recorded, written) = (of(Backward::Recorded), of(Backward::Written));
            let losses = |of: &[f64]| vec![of.to_vec()];
            let (a, b) = (&recorded.0.loss_sums, &written.0.loss_sums);
            assert_close(&losses(a), &losses(b), tolerance);
            for (a, b) in recorded.1.scores.iter().zip(&written.1.scores) {
                assert_close(a, b, tolerance);
            }
            if kind == Kind::Float {
                assert_eq!(recorded.0.generated, written.0.generated);
            }
        }
    }
}

#[test]
fn rows_that_are_answered_right_need_not_be_generated() {
    let generate = |model: &Rc<Model>| {
        let pack = started(model, mixed(), settings(), 1);
        (pack.generate(&batch(0), 4).unwrap(), pack)
    };
    let first = generate(&model("t5_v11", Kind::Float)).0;
    // The same model, but that another token ends a text: one that it writes second somewhere.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/t5_v11");
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["eos_token_id"] = first[0][0][1].into();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(source.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let model = Rc::new(Model::load(dir.path(), Kind::Float, Device::Cpu).unwrap());
    let (written, pack) = generate(&model);
    let end = model.end_token();
    let rights = written.iter().flatten().filter(|text| text.last() == Some(&end)).count();
    assert!((1..written.iter().flatten().count()).contains(&rights), "{written:?}");

    // Labels that some trials write: whole, cut, and too long for the answer.
    let mut asked = batch(0);
    for (row, example) in asked.examples.iter_mut().enumerate() {
        let texts: Vec<&Vec<i64>> = written.iter().map(|rows| &rows[row]).collect();
        let ended = texts.iter().find(|text| text.last() == Some(&end));
        example.labels = ended.unwrap_or(&texts[0]).to_vec();
    }
    for most in [1, 2, 4] {
        let evaluated = pack.evaluate(&asked, most).unwrap();
        assert_eq!(evaluated.generated, pack.generate(&asked, most).unwrap(), "{most} tokens");
    }
}

#[test]
fn a_trial_that_stands_still_is_not_computed_and_the_others_go_on() {
    let model = model("t5_v10", Kind::Float);
    let mut pack = Pack::new(model.clone(), mixed(), settings(), &INIT).unwrap();
    let mut alone = Pack::new(model, vec![mixed()[1]], settings(), &INIT).unwrap();
    train(&mut pack, 1..=2);
    pack.stop(0).unwrap();
    let still = pack.parameters(0).unwrap().to_bytes().unwrap();
    let rest = train(&mut pack, 3..=6);
    assert!(rest.iter().all(|losses| losses[0].is_nan() && losses[1].is_finite()));
    assert_eq!(pack.parameters(0).unwrap().to_bytes().unwrap(), still);
    train(&mut alone, 1..=2);
    let expected = train(&mut alone, 3..=6);
    let found: Vec<Vec<f64>> = rest.iter().map(|losses| vec![losses[1]]).collect();
    assert_close(&expected, &found, 1e-5);
}

/// Root mean square distance of all trials' parameters, in units of their size.
fn distance(one: &[Adapter], other: &[Adapter]) -> f64 {
    let pairs = one.iter().zip(other).flat_map(|(a, b)| a.named().zip(b.named()));
    let square = |t: Tensor| t.square().sum(Kind::Double).double_value(&[]);
    let (sum, size) = pairs.fold((0.0, 0.0), |(sum, size), ((_, a), (_, b))| {
        (sum + square(a - b), size + square(a.shallow_clone()))
    });
    (sum / size).sqrt()
}

/// A member of the pack below, alone from start to end: losses and final parameters.
fn solo(model: &Rc<Model>, member: Member, settings: Settings, steps: i64) -> (Vec<f64>, Adapter) {
    let mut pack = Pack::new(model.clone(), vec![member], settings, &INIT).unwrap();
    let losses = train(&mut pack, 1..=steps).into_iter().flatten().collect();
    (losses, pack.parameters(0).unwrap())
}

/// Members leave and join on the way: each pack runs to the next change, and those who go on are
/// taken over with their states.
#[test]
#[ignore = "trains 40 runs of 200 updates"]
fn fused_trials_end_where_solo_ones_do() {
    const STEPS: i64 = 200;
    let model = model("t5_v10", Kind::Float);
    let rates = [0.3, 0.1, 0.05, 0.3, 0.2, 0.3, 0.1, 0.02];
    let members: Vec<Member> = rates
        .iter()
        .enumerate()
        .map(|(k, &prompt_lr)| {
            let method = Method::Dept { prompt_length: 4, rank: 2 + k % 3 };
            Member { prompt_lr, ..member(method, 42 + (k / 4) as u64) }
        })
        .collect();
    let settings = Settings { steps: STEPS as u64, warmup_steps: 10, ..settings() };
    let alone: Vec<(Vec<f64>, Adapter)> =
        members.iter().map(|&member| solo(&model, member, settings, STEPS)).collect();

    // Who runs together, up to which update.
    let plan: [(i64, &[&[usize]]); 3] = [
        (70, &[&[0, 1, 2, 3, 4, 5], &[6, 7]]),
        (130, &[&[0, 2, 4, 5, 6, 7], &[1, 3]]),
        (STEPS, &[&[0, 1, 2, 3, 4, 5, 6, 7]]),
    ];
    let mut states: Vec<Option<_>> = members.iter().map(|_| None).collect();
    let mut losses = vec![Vec::new(); members.len()];
    let mut first = 1;
    for (last, packs) in plan {
        for &ids in packs {
            let own: Vec<Member> = ids.iter().map(|&id| members[id]).collect();
            let mut pack = Pack::new(model.clone(), own, settings, &INIT).unwrap();
            if first > 1 {
                let states: Vec<_> = ids.iter().map(|&id| states[id].take().unwrap()).collect();
                pack.resume(&states).unwrap();
            }
            for step in train(&mut pack, first..=last) {
                ids.iter().zip(step).for_each(|(&id, loss)| losses[id].push(loss));
            }
            for (k, &id) in ids.iter().enumerate() {
                states[id] = Some(pack.state(k).unwrap());
            }
        }
        first = last + 1;
    }
    for (id, (alone, fused)) in alone.iter().zip(&losses).enumerate() {
        for (step, (a, b)) in alone.0.iter().zip(fused).take(50).enumerate() {
            assert!((a - b).abs() <= 1e-5 * a, "trial {id}, update {step}: {a} and {b}");
        }
    }
    let ends = |runs: Vec<(Vec<f64>, Adapter)>| -> Vec<Adapter> {
        runs.into_iter().map(|(_, end)| end).collect()
    };
    let alone = ends(alone);
    let fused: Vec<Adapter> = states.into_iter().map(|s| s.unwrap().parameters).collect();
    // What rounding alone does to solo runs: other threads, another way back, other cuts.
    let perturbed = |threads, backward, groups| {
        tch::set_num_threads(threads);
        let settings = Settings { backward, groups, ..settings };
        let runs = members.iter().map(|&member| solo(&model, member, settings, STEPS)).collect();
        tch::set_num_threads(1);
        distance(&alone, &ends(runs))
    };
    let floor = [
        perturbed(2, Backward::Written, 1),
        perturbed(3, Backward::Written, 1),
        perturbed(1, Backward::Recorded, 1),
        perturbed(1, Backward::Recorded, 3),
    ];
    let floor = (floor.iter().map(|d| d * d).sum::<f64>() / floor.len() as f64).sqrt();
    let found = distance(&alone, &fused);
    assert!(found <= 3.0 * floor, "fused ends {found} away from solo, noise is {floor}");
}

//! Holds the trainer to traces of the reference implementation.
//!
//! Reads the directory named by `DEPTUNE_GOLDEN`, or the project's own copy. Every model and
//! run found there is replayed; a directory without any run is a failure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deptune_sweep::task::Recipe;
use deptune_trainer::{
    Adapter, Batch, Example, LowRank, Member, Method, Model, Pack, Padding, Settings,
};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const LOSS: f64 = 5e-6;
const PARAMETERS: f64 = 1e-5;
/// Hidden states, logits and gradients are of the order of 1.
const ACTIVATIONS: f64 = 1e-5;

type Tensors = BTreeMap<String, Tensor>;

struct Traced {
    name: String,
    model: Rc<Model>,
    batches: Vec<Batch>,
    facts: Value,
    /// The draw of A that all runs of the model start from.
    init_a: Option<Tensor>,
    runs: Vec<Run>,
}

struct Run {
    name: String,
    facts: Value,
    tensors: Tensors,
}

#[test]
fn padded_batches_follow_the_reference() {
    let mut replayed = 0;
    for model in models() {
        for run in &model.runs {
            replay(&model, &[(run, None)], Padding::MaxLength, 1);
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no run was replayed");
}

#[test]
fn cut_and_grouped_batches_follow_the_reference() {
    let mut replayed = 0;
    for model in models() {
        for run in &model.runs {
            replay(&model, &[(run, None)], Padding::Longest { multiple: 1 }, 1);
            replay(&model, &[(run, None)], Padding::Longest { multiple: 4 }, 3);
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no run was replayed");
}

#[test]
fn packed_trials_follow_the_reference() {
    let mut replayed = 0;
    for model in models() {
        for run in &model.runs {
            // Beside a trial of other rates, which must leave no trace.
            let other = Member { prompt_lr: 1.0, lowrank_lr: 0.1, ..member(run) };
            replay(&model, &[(run, None), (run, Some(other))], Padding::MaxLength, 1);
            replayed += 1;
        }
        // Runs of one accumulation as one pack: other rates, other methods, other m and r.
        let plain: Vec<_> = model
            .runs
            .iter()
            .filter(|run| integer(&run.facts["gradient_accumulation"]) == 1)
            .map(|run| (run, None))
            .collect();
        replay(&model, &plain, Padding::Longest { multiple: 8 }, 2);
    }
    assert!(replayed > 0, "no run was replayed");
}

/// Trains the given runs as one pack and compares those without a stand-in member.
fn replay(model: &Traced, pack: &[(&Run, Option<Member>)], padding: Padding, groups: usize) {
    tch::set_num_threads(1);
    let Some((first, _)) = pack.first() else { return };
    let accumulation = integer(&first.facts["gradient_accumulation"]);
    let settings = Settings {
        steps: integer(&model.facts["steps"]) as u64,
        warmup_steps: integer(&model.facts["warmup"]) as u64,
        max_length: integer(&model.facts["s"]),
        grad_clip: number(&model.facts["max_grad_norm"]),
        dropout: 0.0,
        padding,
        recipe: Recipe::Reference,
        groups,
        ..Settings::default()
    };
    let members = pack.iter().map(|(run, other)| other.unwrap_or(member(run))).collect();
    let init_ids: Vec<i64> =
        list(&model.facts["init_token_ids"]).map(integer).map(|id| id as i64).collect();
    let mut trials = Pack::new(model.model.clone(), members, settings, &init_ids).unwrap();

    let compared: Vec<(usize, &Run)> = (0..)
        .zip(pack)
        .filter(|(_, (_, other))| other.is_none())
        .map(|(k, (run, _))| (k, *run))
        .collect();
    let label = |run: &Run| {
        format!(
            "{}/{} (pack of {}, {padding:?}, {groups} groups)",
            model.name,
            run.name,
            pack.len()
        )
    };
    for (k, (run, _)) in pack.iter().enumerate() {
        // The prompt's start values are our own; A's draw is the reference's.
        let start = trials.parameters(k).unwrap();
        close(
            start.prompt().unwrap(),
            &run.tensors["init.prompt"],
            0.0,
            &format!("{} start", label(run)),
        );
        if let Some(LowRank { b, .. }) = start.lowrank() {
            let a = model.init_a.as_ref().unwrap().shallow_clone();
            let prompt = start.prompt().map(Tensor::shallow_clone);
            let start = Adapter::dept(prompt, Some(LowRank { a, b }));
            trials.set_parameters(k, &start).unwrap();
        }
    }
    for &(k, run) in &compared {
        check_activations(model, run, &trials, k, &label(run));
    }

    for (batch, step) in model.batches.iter().zip(1..) {
        let micro: Vec<Batch> = batch
            .examples
            .chunks(batch.examples.len() / accumulation)
            .map(|rows| Batch { examples: rows.to_vec() })
            .collect();
        if step == 1 || step == 3 {
            let gradients = trials.gradients(&micro).unwrap();
            for &(k, run) in &compared {
                let found = gradients.trial(k).unwrap();
                compare(&found, run, &format!("step{step}.grad"), ACTIVATIONS, &label(run));
            }
        }
        let report = trials.step(&micro).unwrap();
        for &(k, run) in &compared {
            let place = format!("{} step {step}", label(run));
            let at = |name: &str| number(&run.facts[name][step - 1]);
            near(report.trials[k].loss, at("loss"), LOSS, &format!("{place} loss"));
            near(report.trials[k].grad_norm, at("grad_norm"), LOSS, &format!("{place} norm"));
            assert!(!report.trials[k].diverged, "{place}");
            let lr = number(&run.facts["learning_rate"]) * report.lr_factor;
            near(lr, at("lr"), 1e-12, &format!("{place} rate"));
            let parameters = trials.parameters(k).unwrap();
            compare(&parameters, run, &format!("after_step{step}"), PARAMETERS, &label(run));
        }
    }
    for &(k, run) in &compared {
        let label = label(run);
        let parameters = trials.parameters(k).unwrap();
        assert!(compare(&parameters, run, "final", PARAMETERS, &label), "{label}: no final state");
        let loss = trials.eval_loss(&model.batches[0]).unwrap()[k];
        near(loss, number(&run.facts["eval_loss_batch0_after"]), LOSS, &format!("{label} eval"));
        check_generation(model, run, &trials, k, &label);
    }
}

fn check_activations(model: &Traced, run: &Run, trials: &Pack, k: usize, label: &str) {
    let Some(expected_logits) = run.tensors.get("step1.logits") else { return };
    let batch = &model.batches[0];
    let encoded = trials.encode(batch).unwrap();
    let prompt = member(run).method.prompt_length() as i64;
    if let Some(expected) = run.tensors.get("step1.encoder_last_hidden_state") {
        let states = encoded.states().get(k as i64);
        // A pack may have longer prompts in front, and the batch may be cut.
        let width = expected.size()[1] - prompt;
        let prompts = trials.members().iter().map(|m| m.method.prompt_length() as i64);
        let unused = prompts.max().unwrap() - prompt;
        for (row, example) in batch.examples.iter().enumerate() {
            let length = prompt + (example.input_ids.len() as i64).min(width);
            let found = states.get(row as i64).narrow(0, unused, length);
            let expected = expected.get(row as i64).narrow(0, 0, length);
            close(&found, &expected, ACTIVATIONS, &format!("{label} encoder row {row}"));
        }
    }
    let logits = trials.label_logits(&encoded).unwrap().get(k as i64);
    let mut first = 0;
    // Traces of decoders hold row 0 alone.
    let rows = expected_logits.size()[0] as usize;
    for (row, example) in batch.examples.iter().enumerate().take(rows) {
        let length = example.labels.len() as i64;
        let expected = expected_logits.get(row as i64);
        let expected = if model.model.is_decoder() {
            // Padded on the left: the label is the end, and each token is predicted one before.
            expected.narrow(0, expected.size()[0] - length - 1, length)
        } else {
            expected.narrow(0, 0, length)
        };
        let found = logits.narrow(0, first, length);
        close(&found, &expected, ACTIVATIONS, &format!("{label} logits row {row}"));
        first += length;
    }
}

fn check_generation(model: &Traced, run: &Run, trials: &Pack, k: usize, label: &str) {
    let Some(expected) = run.tensors.get("generate.output_ids") else { return };
    // The reference prints what it started from, the start token or the padded text, and pads
    // after the end token.
    let first = if model.model.is_decoder() { integer(&model.facts["s"]) as i64 } else { 1 };
    let most = expected.size()[1] - first;
    let end = i64::from(model.model.config().eos_token_id());
    let generated = &trials.generate(&model.batches[0], most as usize).unwrap()[k];
    for (row, text) in generated.iter().enumerate() {
        let ids = Vec::<i64>::try_from(expected.get(row as i64).narrow(0, first, most)).unwrap();
        let end = ids.iter().position(|&id| id == end).map_or(ids.len(), |end| end + 1);
        assert_eq!(text, &ids[..end], "{label} generated row {row}");
    }
}

/// Compares P, A and B with the tensors `prefix.*` of a run; false when there are none.
fn compare(found: &Adapter, run: &Run, prefix: &str, tolerance: f64, label: &str) -> bool {
    let mut tensors = vec![("prompt", found.prompt().unwrap().shallow_clone())];
    if let Some(LowRank { a, b }) = found.lowrank() {
        tensors.extend([("A", a), ("B", b)]);
    }
    let mut compared = false;
    for (name, tensor) in tensors {
        if let Some(expected) = run.tensors.get(&format!("{prefix}.{name}")) {
            close(&tensor, expected, tolerance, &format!("{label} {prefix}.{name}"));
            compared = true;
        }
    }
    compared
}

fn close(found: &Tensor, expected: &Tensor, tolerance: f64, label: &str) {
    assert_eq!(found.size(), expected.size(), "{label}");
    let difference = (found - expected).abs().max().double_value(&[]);
    assert!(difference <= tolerance, "{label}: differs by {difference:e}");
}

fn near(found: f64, expected: f64, tolerance: f64, label: &str) {
    assert!((found - expected).abs() <= tolerance, "{label}: {found} instead of {expected}");
}

fn member(run: &Run) -> Member {
    let (prompt_length, rank) = (integer(&run.facts["m"]), integer(&run.facts["r"]));
    let method = match rank {
        0 => Method::PromptTuning { prompt_length },
        _ => Method::Dept { prompt_length, rank },
    };
    let prompt_lr = number(&run.facts["learning_rate"]);
    let lowrank_lr = run.facts["lora_embedding_lr"].as_f64().unwrap_or(0.0);
    Member::prompt(method, prompt_lr, lowrank_lr, 42)
}

fn models() -> Vec<Traced> {
    let root = std::env::var_os("DEPTUNE_GOLDEN")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    let mut names: Vec<String> = std::fs::read_dir(root.join("models"))
        .unwrap_or_else(|error| panic!("no golden traces in {}: {error}", root.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.into_iter().map(|name| load(&root, name)).collect()
}

fn load(root: &Path, name: String) -> Traced {
    let dir = root.join("models").join(&name);
    let traces = root.join(&name);
    let facts = json(&traces.join("runs.json"));
    let runs: Vec<Run> = facts["runs"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(run, facts)| Run {
            name: run.clone(),
            facts: facts.clone(),
            tensors: tensors(&traces.join(format!("{run}.safetensors"))),
        })
        .collect();
    let init_a = runs.iter().find_map(|run| run.tensors.get("init.A")).map(Tensor::shallow_clone);
    let model = Rc::new(Model::load(&dir, Kind::Float, Device::Cpu).unwrap());
    let joined = model.is_decoder();
    let batches = batches(&tensors(&traces.join("batches.safetensors")), joined);
    Traced { name, model, batches, facts, init_a, runs }
}

/// Rows without their padding; a decoder's inputs are joined with their labels.
fn batches(tensors: &Tensors, joined: bool) -> Vec<Batch> {
    let rows = |name: &str| -> Vec<Vec<Vec<i64>>> {
        let tensor = tensors[name].to_kind(Kind::Int64);
        let (batches, count, width) = tensor.size3().unwrap();
        let flat = Vec::<i64>::try_from(tensor.flatten(0, -1)).unwrap();
        let rows: Vec<Vec<i64>> = flat.chunks(width as usize).map(<[_]>::to_vec).collect();
        assert_eq!(rows.len() as i64, batches * count);
        rows.chunks(count as usize).map(<[_]>::to_vec).collect()
    };
    let (inputs, masks, labels) = (rows("input_ids"), rows("attention_mask"), rows("labels"));
    let examples = inputs.into_iter().zip(masks).zip(labels).map(|((inputs, masks), labels)| {
        let rows = inputs.into_iter().zip(masks).zip(labels);
        let examples = rows.map(|((mut input_ids, mask), mut labels)| {
            let mut shown = mask.iter().map(|&shown| shown == 1);
            input_ids.retain(|_| shown.next().unwrap());
            labels.retain(|&label| label != -100);
            if joined {
                input_ids.truncate(input_ids.len() - labels.len());
            }
            Example { input_ids, labels }
        });
        Batch { examples: examples.collect() }
    });
    examples.collect()
}

fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                Dtype::I32 => Kind::Int,
                Dtype::I8 => Kind::Int8,
                other => panic!("{}: {name} is {other:?}", path.display()),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            (name.to_owned(), Tensor::from_data_size(view.data(), &shape, kind))
        })
        .collect()
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn integer(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no whole number")) as usize
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

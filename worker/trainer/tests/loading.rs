//! Weight files as real ones are: bare or prefixed names, tensors that nothing needs, shards;
//! and what memory it takes to load them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deptune_sweep::task::Recipe;
use deptune_trainer::tensors::{from_bytes, to_bytes};
use deptune_trainer::{Batch, Example, Member, Method, Model, Pack, Padding, Settings};
use tch::{Device, Kind, Tensor};

fn loss(dir: &Path) -> f64 {
    tch::set_num_threads(1);
    let model = Rc::new(Model::load(dir, Kind::Float, Device::Cpu).unwrap());
    let settings = Settings {
        steps: 1,
        warmup_steps: 0,
        max_length: 16,
        grad_clip: 1.0,
        dropout: 0.0,
        padding: Padding::MaxLength,
        recipe: Recipe::Default,
        groups: 1,
        ..Settings::default()
    };
    let method = Method::PromptTuning { prompt_length: 2 };
    let member = Member::prompt(method, 0.3, 0.0, 42);
    let pack = Pack::new(model, vec![member], settings, &[5, 6]).unwrap();
    let example = Example { input_ids: vec![9, 8, 7, 300], labels: vec![4, 1] };
    pack.eval_loss(&Batch { examples: vec![example] }).unwrap()[0]
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name)
}

fn save(path: &Path, tensors: &[(String, Tensor)]) {
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    std::fs::write(path, to_bytes(&named, None).unwrap()).unwrap();
}

/// Some hub files hold the body alone, without the name of the whole model in front, and buffers
/// that older versions saved; large models come in several files.
#[test]
fn bare_names_buffers_and_shards_are_read() {
    for (name, prefix) in [("gpt2", "transformer."), ("llama", "model.")] {
        let expected = loss(&golden(name));
        let bytes = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let mut tensors: Vec<(String, Tensor)> = from_bytes(&bytes)
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| (name.strip_prefix(prefix).unwrap_or(&name).to_owned(), tensor))
            .collect();
        tensors.push((
            "h.0.attn.bias".to_owned(),
            Tensor::ones([1, 1, 8, 8], (Kind::Float, Device::Cpu)),
        ));
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden(name).join("config.json"), dir.path().join("config.json")).unwrap();
        save(&dir.path().join("model.safetensors"), &tensors);
        assert_eq!(loss(dir.path()), expected, "{name} with bare names");

        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let (first, second) = tensors.split_at(tensors.len() / 2);
        let mut map = BTreeMap::new();
        for (file, part) in [("1.safetensors", first), ("2.safetensors", second)] {
            save(&dir.path().join(file), part);
            map.extend(part.iter().map(|(name, _)| (name.clone(), file)));
        }
        let index = serde_json::json!({ "metadata": {}, "weight_map": map });
        std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        assert_eq!(loss(dir.path()), expected, "{name} in shards");
    }
}

#[test]
fn what_is_missing_is_named_with_its_shape() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(golden("llama").join("config.json"), dir.path().join("config.json")).unwrap();
    let bytes = std::fs::read(golden("llama").join("model.safetensors")).unwrap();
    let mut tensors: Vec<(String, Tensor)> = from_bytes(&bytes).unwrap().into_iter().collect();
    tensors.retain(|(name, _)| name != "model.layers.1.self_attn.k_proj.weight");
    save(&dir.path().join("model.safetensors"), &tensors);
    let error = Model::load(dir.path(), Kind::Float, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("model.layers.1.self_attn.k_proj.weight"), "{error}");
    assert!(error.contains("[32, 64]"), "{error}");
}

const DIRECTORY: &str = "DEPTUNE_TEST_LOADS";

/// A bf16 file of zeros with holes instead of numbers: it costs no disk.
fn hollow(dir: &Path, config: &serde_json::Value, tensors: &[(String, [u64; 2])]) -> (u64, u64) {
    let mut header = serde_json::Map::new();
    let (mut at, mut largest) = (0, 0);
    for (name, shape) in tensors {
        let numbers = shape[0] * shape[1].max(1);
        let shape: Vec<u64> = shape.iter().copied().filter(|&size| size > 0).collect();
        let places = [at, at + 2 * numbers];
        let entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": places});
        header.insert(name.clone(), entry);
        at += 2 * numbers;
        largest = largest.max(numbers);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(dir.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    (at / 2 * 4, largest * 4)
}

fn llama(dir: &Path) -> (u64, u64) {
    let (d, ff, shared, layers) = (1024, 2816, 512, 4);
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": d, "intermediate_size": ff,
        "num_hidden_layers": layers, "num_attention_heads": 16, "num_key_value_heads": 8,
        "vocab_size": 2000, "tie_word_embeddings": true,
    });
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), [2000, d]),
        ("model.norm.weight".to_owned(), [d, 0]),
    ];
    for layer in 0..layers {
        let parts = [
            ("input_layernorm", [d, 0]),
            ("post_attention_layernorm", [d, 0]),
            ("self_attn.q_proj", [d, d]),
            ("self_attn.k_proj", [shared, d]),
            ("self_attn.v_proj", [shared, d]),
            ("self_attn.o_proj", [d, d]),
            ("mlp.gate_proj", [ff, d]),
            ("mlp.up_proj", [ff, d]),
            ("mlp.down_proj", [d, ff]),
        ];
        let named =
            parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape));
        tensors.extend(named);
    }
    hollow(dir, &config, &tensors)
}

fn t5(dir: &Path) -> (u64, u64) {
    let (d, ff, layers) = (1024, 2816, 2);
    let config = serde_json::json!({
        "model_type": "t5", "d_model": d, "d_kv": 64, "d_ff": ff, "num_layers": layers,
        "num_heads": 16, "vocab_size": 4000, "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": false,
    });
    let mut tensors =
        vec![("shared.weight".to_owned(), [4000, d]), ("lm_head.weight".to_owned(), [4000, d])];
    let stacks: [(&str, &[&str]); 2] =
        [("encoder", &["SelfAttention"]), ("decoder", &["SelfAttention", "EncDecAttention"])];
    for (stack, attentions) in stacks {
        let bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        tensors.push((format!("{stack}.{bias}"), [32, 16]));
        tensors.push((format!("{stack}.final_layer_norm.weight"), [d, 0]));
        for block in 0..layers {
            for (layer, attention) in attentions.iter().enumerate() {
                let layer = format!("{stack}.block.{block}.layer.{layer}");
                for part in ["q", "k", "v", "o"] {
                    tensors.push((format!("{layer}.{attention}.{part}.weight"), [d, d]));
                }
                tensors.push((format!("{layer}.layer_norm.weight"), [d, 0]));
            }
            let layer = format!("{stack}.block.{block}.layer.{}", attentions.len());
            for (part, shape) in [("wi_0", [ff, d]), ("wi_1", [ff, d]), ("wo", [d, ff])] {
                tensors.push((format!("{layer}.DenseReluDense.{part}.weight"), shape));
            }
            tensors.push((format!("{layer}.layer_norm.weight"), [d, 0]));
        }
    }
    hollow(dir, &config, &tensors)
}

/// Anonymous memory while loading stays within the loaded size and the largest tensor: files are
/// mapped, tensors converted one by one, and none is laid out twice.
#[test]
fn loading_takes_no_more_than_the_model_and_its_largest_tensor() {
    for name in ["llama", "t5"] {
        let dir = tempfile::tempdir().unwrap();
        let (loaded, largest) = if name == "t5" { t5(dir.path()) } else { llama(dir.path()) };
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_child_loads_a_model", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let number = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.split_once(key)).unwrap().1;
            line.trim().parse().unwrap()
        };
        let (peak, kept) = (number("peak:"), number("kept:"));
        // Allocators and the file's header take a little beside the tensors.
        let slack = 6 << 20;
        println!("{name}: loaded {loaded}, largest {largest}, peak {peak}, kept {kept}");
        assert!(kept > loaded * 9 / 10, "{name}: {kept} of {loaded} bytes were seen");
        assert!(peak <= loaded + largest + slack, "{name}: {peak} for {loaded} + {largest}");
        assert!(kept <= loaded + slack, "{name}: {kept} are kept for {loaded}");
    }
}

/// The child of the test above.
#[test]
#[ignore = "run by another test in a process of its own"]
fn a_child_loads_a_model() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    tch::set_num_threads(1);
    // libtorch's own start must not count.
    let warm = Tensor::ones([64, 64], (Kind::BFloat16, Device::Cpu)).to_kind(Kind::Float);
    assert_eq!(warm.matmul(&warm).size(), [64, 64]);
    let before = anonymous();
    let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(before)));
    let watcher = {
        let (stop, peak) = (Arc::clone(&stop), Arc::clone(&peak));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        })
    };
    let model = Model::load(Path::new(&dir), Kind::Float, Device::Cpu).unwrap();
    let kept = anonymous() - before;
    stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    println!("\npeak: {}\nkept: {kept}", peak.load(Ordering::Relaxed).max(before + kept) - before);
    drop(model);
}

/// RssAnon of this process, in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

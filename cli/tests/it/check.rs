//! `check` and `plan` on the quickstart, whole and spoilt.

use super::{deptune, quickstart, replace};

#[test]
fn a_sound_spec_says_what_was_checked() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert_eq!(
        ran.stdout,
        "spec    sweep.toml: no problem found\n\
         trials  36 (12 configurations × 3 seeds)\n\
         rows    train 600, validation 150, test 224 (as given)\n\
         model   T5 with d = 192, 3 + 3 layers, 8,064 tokens; weights and tokenizer fit it\n"
    );
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn every_problem_is_listed_in_one_run_with_line_and_hint() {
    let dir = tempfile::tempdir().unwrap();
    let spec = quickstart(dir.path());
    std::fs::write(&spec, SPOILT).unwrap();
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert_eq!(
        ran.stderr,
        "error: sweep.toml:7:1: column 'txt' not found in data/train.jsonl\n  \
         hint: columns are: sentiment, text; did you mean 'text'?\n\
         error: sweep.toml:11:1: unknown key 'promt_lr' in [space]\n  \
         hint: did you mean 'prompt_lr'?\n\
         error: sweep.toml:13:8: rank 65 is more than min(max_length 64, hidden size \
         192)\n  hint: give a rank of at most 64\n\
         error: 3 problems in sweep.toml\n"
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
}

const SPOILT: &str = r#"name = "spoilt"
[model]
path = "model"
[task]
name = "opinion"
train = "data/train.jsonl"
template = "sentence: {txt}"
label = "sentiment"
labels = ["negative", "positive"]
[space]
promt_lr = [0.3]
prompt_length = 8
rank = 65
lowrank_lr = 5e-4
[train]
steps = 10
max_length = 64
"#;

#[test]
fn bad_rows_are_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let rows = "{\"text\": \"fine\", \"sentiment\": \"positive\"}\n{\"text\": \"no label\"}\n\
                {\"text\": \"odd\", \"sentiment\": \"neutral\"}\nnot json\n";
    std::fs::write(dir.path().join("data/train.jsonl"), rows).unwrap();
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert_eq!(ran.code, Some(2));
    for line in ["3 bad rows\n", "data/train.jsonl:2: ", "data/train.jsonl:3: ", "train.jsonl:4: "]
    {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
}

#[test]
fn without_the_model_its_configuration_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let spec = quickstart(dir.path());
    std::fs::rename(dir.path().join("model/config.json"), dir.path().join("t5.json")).unwrap();
    replace(&spec, "path = \"model\"", "path = \"elsewhere\"");
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("model 'elsewhere' is no directory here"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--model-config FILE"), "{}", ran.stderr);
    let args = ["check", "sweep.toml", "--config-only", "--model-config", "t5.json"];
    let ran = deptune(dir.path(), &args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("not checked (--config-only)"), "{}", ran.stdout);
}

#[test]
fn paths_are_relative_to_the_spec_not_to_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let spec = quickstart(dir.path());
    let ran = deptune(elsewhere.path(), &["check", spec.to_str().unwrap(), "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains(r#""trials":36"#), "{}", ran.stdout);
}

#[test]
fn a_plan_counts_trials_steps_and_parameters() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let ran =
        deptune(dir.path(), &["plan", "sweep.toml", "--seconds-per-step", "0.5", "--top", "2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for text in ["36 (12 configurations × 3 seeds)", "7,680 per trial", "on 1 slot (eval"] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    assert_eq!(ran.stderr, "10 more; --top N shows more\n");
}

#[test]
fn the_papers_runs_are_accepted_without_weights_and_data() {
    let paper = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/paper");
    let home = tempfile::tempdir().unwrap();
    let mut accepted = 0;
    for entry in std::fs::read_dir(&paper).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let ran = deptune(home.path(), &["check", "--config-only", path.to_str().unwrap()]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", path.display());
        assert!(ran.stdout.contains("not on this machine, not checked"), "{}", ran.stdout);
        accepted += 1;
    }
    assert_eq!(accepted, 17);
}

#[test]
fn weights_may_lie_in_several_files() {
    let dir = tempfile::tempdir().unwrap();
    quickstart(dir.path());
    let model = dir.path().join("model");
    let whole = std::fs::read(model.join("model.safetensors")).unwrap();
    std::fs::remove_file(model.join("model.safetensors")).unwrap();
    let length = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&whole[8..8 + length]).unwrap();
    let content = &whole[8 + length..];
    let mut map = serde_json::Map::new();
    for part in 0..2 {
        let (mut own, mut bytes) = (serde_json::Map::new(), Vec::new());
        let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
        for (name, tensor) in tensors.skip(part).step_by(2) {
            let at =
                |i: usize| usize::try_from(tensor["data_offsets"][i].as_u64().unwrap()).unwrap();
            let begin = bytes.len();
            bytes.extend_from_slice(&content[at(0)..at(1)]);
            let mut tensor = tensor.clone();
            tensor["data_offsets"] = serde_json::json!([begin, bytes.len()]);
            own.insert(name.clone(), tensor);
            map.insert(name.clone(), format!("part-{part}.safetensors").into());
        }
        let own = serde_json::to_vec(&own).unwrap();
        let file = [&(own.len() as u64).to_le_bytes()[..], &own, &bytes].concat();
        std::fs::write(model.join(format!("part-{part}.safetensors")), file).unwrap();
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
    std::fs::write(model.join("model.safetensors.index.json"), &index).unwrap();
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert!(ran.stdout.contains("weights and tokenizer fit it"), "{}", ran.stderr);

    let half = index.replace("part-1.", "part-0.");
    std::fs::write(model.join("model.safetensors.index.json"), half).unwrap();
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("model/part-0.safetensors: tensor '"), "{}", ran.stderr);
    let out = index.replace("part-1.", "../part-1.");
    std::fs::write(model.join("model.safetensors.index.json"), out).unwrap();
    let ran = deptune(dir.path(), &["check", "sweep.toml"]);
    assert!(ran.stderr.contains("no safetensors file in its own directory"), "{}", ran.stderr);
}

//! A person's folder: a spec, data files, a model.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::program::source;

/// The quickstart's folder in the source tree, with a small model and data.
#[must_use]
pub fn quickstart() -> PathBuf {
    source().join("examples/quickstart").canonicalize().expect("the quickstart is there")
}

/// Copies a folder of plain files.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The spec that projects start from.
const SPEC: &str = r#"name = "small"

[model]
path = "model"

[task]
name = "opinion"
train = "train.jsonl"
validation = "validation.jsonl"
test = "test.jsonl"
template = "sentiment sentence: {text}"
label = "sentiment"
labels = ["negative", "positive"]

[space]
prompt_lr = [0.3]
lowrank_lr = [1e-3]
prompt_length = [8]
rank = [24]
seeds = [42]

[train]
steps = 6
batch_size = 4
max_length = 32
warmup_steps = 1
eval_every = 3
"#;

/// A folder with a valid spec of one trial, the quickstart's model and a few rows of its data.
#[derive(Debug)]
pub struct Project {
    /// The folder.
    pub dir: PathBuf,
    spec: String,
}

impl Project {
    /// Makes the folder `dir`. The model is a link to the quickstart's.
    pub fn new(dir: &Path) -> Project {
        fs::create_dir_all(dir).unwrap();
        symlink(quickstart().join("model"), dir.join("model")).unwrap();
        for (part, rows) in [("train", 24), ("validation", 12), ("test", 12)] {
            let name = format!("{part}.jsonl");
            let text = fs::read_to_string(quickstart().join("data").join(&name)).unwrap();
            let lines: Vec<&str> = text.lines().take(rows).collect();
            fs::write(dir.join(name), lines.join("\n") + "\n").unwrap();
        }
        let project = Project { dir: dir.to_owned(), spec: SPEC.to_owned() };
        project.write();
        project
    }

    /// Replaces the first `old` in the spec, which must hold it.
    #[track_caller]
    #[must_use]
    pub fn with(mut self, old: &str, new: &str) -> Project {
        assert!(self.spec.contains(old), "'{old}' is not in the spec");
        self.spec = self.spec.replacen(old, new, 1);
        self.write();
        self
    }

    /// Puts a copy in the place of the link to the model, for tests that change it.
    #[must_use]
    pub fn with_own_model(self) -> Project {
        let model = self.dir.join("model");
        fs::remove_file(&model).unwrap();
        copy_dir(&quickstart().join("model"), &model);
        self
    }

    /// Writes a file of the folder.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The spec's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.spec
    }

    /// The spec's file.
    #[must_use]
    pub fn spec(&self) -> String {
        self.dir.join("sweep.toml").display().to_string()
    }

    /// `FILE:LINE:` of the first line of the spec that holds `text`.
    #[track_caller]
    #[must_use]
    pub fn at(&self, text: &str) -> String {
        let line = self.spec.lines().position(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("'{text}' is not in the spec")) + 1;
        format!("{}:{line}:", self.spec())
    }

    fn write(&self) {
        fs::write(self.spec(), &self.spec).unwrap();
    }
}

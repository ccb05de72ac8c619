//! What a sweep must end with, worked out without any of the programs.

use deptune_sweep::id::ArtifactHash;
use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Format, Spec};

use crate::project::{Project, quickstart};

/// The selection metric, in millionths, that the child which only pretends to train reports for
/// each of the first `trials` trials, with their index.
#[must_use]
pub fn expected_metrics(project: &Project, trials: i64) -> Vec<(i64, i64)> {
    let config = std::fs::read_to_string(quickstart().join("model/config.json")).unwrap();
    let config = ModelConfig::parse("config.json", &config).unwrap();
    let spec = Spec::parse(project.text(), Format::Toml, Some(&config)).unwrap();
    let metric = |index: i64| {
        let settings = spec.settings(u64::try_from(index).unwrap()).unwrap();
        let identity = ArtifactHash::of(&serde_json::to_vec(&settings).unwrap()).to_string();
        let digits = u32::from_str_radix(&identity[..8], 16).unwrap();
        let metric = 50.0 + 5.0 + 40.0 * f64::from(digits) / f64::from(u32::MAX);
        #[allow(clippy::cast_possible_truncation)]
        (index, (metric * 1e6).round() as i64)
    };
    (0..trials).map(metric).collect()
}

//! bf16: the large matrix products in half precision, everything else in f32.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::rc::Rc;

use deptune_sweep::task::Recipe;
use deptune_trainer::{Batch, Example, Member, Method, Model, Pack, Padding, Settings};
use tch::{Device, Kind};

fn pack(name: &str, kind: Kind) -> Pack {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    let model = Rc::new(Model::load(&dir, kind, Device::Cpu).unwrap());
    let settings = Settings {
        steps: 40,
        warmup_steps: 2,
        max_length: 32,
        grad_clip: 1.0,
        dropout: 0.0,
        padding: Padding::Longest { multiple: 4 },
        recipe: Recipe::Default,
        groups: 2,
        ..Settings::default()
    };
    let method = Method::Dept { prompt_length: 4, rank: 3 };
    let member = Member::prompt(method, 0.3, 5e-3, 42);
    Pack::new(model, vec![member], settings, &[271, 48, 19, 1]).unwrap()
}

fn batch(step: i64) -> Batch {
    let row = |row: i64| Example {
        input_ids: (0..5 + row * 3).map(|i| 2 + (i * i * 31 + row * 17 + step * 5) % 380).collect(),
        labels: vec![5 + row % 2, 1],
    };
    Batch { examples: (0..6).map(row).collect() }
}

#[test]
fn half_precision_products_stay_near_full_ones() {
    tch::set_num_threads(1);
    for name in ["t5_v10", "t5_v11", "gpt2", "llama"] {
        let (mut half, mut full) = (pack(name, Kind::BFloat16), pack(name, Kind::Float));
        assert_eq!(half.model().kind(), Kind::Float);
        let logits = |pack: &Pack| pack.label_logits(&pack.encode(&batch(1)).unwrap()).unwrap();
        let (found, expected) = (logits(&half), logits(&full));
        assert_eq!(found.kind(), Kind::Float);
        let error = (&found - &expected).abs().max().double_value(&[]);
        let largest = expected.abs().max().double_value(&[]);
        assert!(error > 0.0, "{name}: nothing was computed in half precision");
        assert!(error < 0.03 * largest, "{name}: {error} of {largest}");

        let gradients = |pack: &Pack| pack.gradients(&[batch(1)]).unwrap().trial(0).unwrap();
        let (found, expected) = (gradients(&half), gradients(&full));
        let (found, expected) = (found.prompt().unwrap(), expected.prompt().unwrap());
        let error = (found - expected).norm().double_value(&[]);
        let size = expected.norm().double_value(&[]);
        assert!(error < 0.1 * size, "{name}: gradient {error} of {size}");
        assert_eq!(found.kind(), Kind::Float);

        let mut last = [0.0, 0.0];
        for step in 1..=20 {
            for (last, pack) in last.iter_mut().zip([&mut half, &mut full]) {
                *last = pack.step(&[batch(step)]).unwrap().trials[0].loss;
            }
        }
        let [half, full] = last;
        assert!((half - full).abs() < 0.05 * full, "{name}: loss {half} beside {full}");
    }
}

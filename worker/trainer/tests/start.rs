//! Where trials start, and the edges of DePT: no low-rank pair, no prompt.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::rc::Rc;

use deptune_trainer::{
    Batch, Example, Member, Method, Model, Optimizer, Pack, PromptInit, Settings,
};
use tch::{Device, Kind, Tensor};

fn model(name: &str) -> Rc<Model> {
    tch::set_num_threads(1);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    Rc::new(Model::load(&dir, Kind::Float, Device::Cpu).unwrap())
}

fn pack(model: &Rc<Model>, members: Vec<Member>, optimizer: Optimizer) -> Pack {
    let settings = Settings {
        steps: 10,
        warmup_steps: 1,
        max_length: 16,
        dropout: 0.0,
        optimizer,
        ..Settings::default()
    };
    Pack::new(Rc::clone(model), members, settings, &[271, 48, 19, 1]).unwrap()
}

fn dept(prompt_length: usize, rank: usize) -> Member {
    Member::prompt(Method::Dept { prompt_length, rank }, 0.3, 5e-3, 42)
}

fn batch(step: i64) -> Batch {
    let row = |row: i64| {
        let input_ids =
            (0..3 + (row * 5 + step) % 11).map(|i| 2 + (i * 31 + row * 17 + step) % 380);
        Example { input_ids: input_ids.collect(), labels: vec![5 + row, 1] }
    };
    Batch { examples: (0..4).map(row).collect() }
}

#[test]
fn dept_without_a_low_rank_pair_is_prompt_tuning() {
    for name in ["t5_v10", "gpt2", "llama"] {
        let model = model(name);
        for optimizer in [Optimizer::AdamW, Optimizer::Adafactor] {
            let pt = Method::PromptTuning { prompt_length: 5 };
            let mut edge = pack(&model, vec![dept(5, 0)], optimizer);
            let mut plain = pack(&model, vec![Member::prompt(pt, 0.3, 0.0, 42)], optimizer);
            for step in 1..=5 {
                let report = edge.step(&[batch(step)]).unwrap();
                assert_eq!(report, plain.step(&[batch(step)]).unwrap(), "{name}");
            }
            let bytes = |pack: &Pack| pack.parameters(0).unwrap().to_bytes().unwrap();
            assert_eq!(bytes(&edge), bytes(&plain), "{name}");
        }
    }
}

#[test]
fn dept_without_a_prompt_trains_the_pair_alone() {
    for name in ["t5_v10", "gpt2", "llama"] {
        let model = model(name);
        let lora = Member::weights(Method::Lora { rank: 1, alpha: 1.0 }, 0.0, 42);
        let mut edge = pack(&model, vec![dept(0, 3)], Optimizer::AdamW);
        // Neither an offset of 0 nor pairs of 0 change the model.
        let bare = pack(&model, vec![lora], Optimizer::AdamW).eval_loss(&batch(1)).unwrap()[0];
        let start = edge.eval_loss(&batch(1)).unwrap()[0];
        assert!((start - bare).abs() < 1e-5, "{name}: {start} {bare}");
        let losses: Vec<f64> =
            (1..=8).map(|_| edge.step(&[batch(1)]).unwrap().trials[0].loss).collect();
        assert!(losses[7] < losses[0], "{name}: {losses:?}");
        let parameters = edge.parameters(0).unwrap();
        assert!(parameters.prompt().is_none() && parameters.lowrank().is_some());

        // Beside a trial with a prompt, whose places it must not see.
        let mut both = pack(&model, vec![dept(4, 2), dept(0, 3)], Optimizer::AdamW);
        let beside: Vec<f64> =
            (1..=8).map(|_| both.step(&[batch(1)]).unwrap().trials[1].loss).collect();
        for (one, other) in losses.iter().zip(&beside) {
            assert!((one - other).abs() < 1e-5 * one, "{name}: {losses:?} {beside:?}");
        }
    }
}

#[test]
fn what_trains_nothing_or_needs_a_model_of_its_own_is_refused() {
    let model = model("t5_v10");
    let refused = |member: Member| {
        let made = Pack::new(Rc::clone(&model), vec![member], Settings::default(), &[1]);
        made.err().unwrap().to_string()
    };
    let nothing = refused(dept(0, 0));
    assert!(nothing.contains("rank = 0") && nothing.contains("must be trained"), "{nothing}");
    let lora = refused(Member::weights(Method::Lora { rank: 0, alpha: 8.0 }, 0.1, 1));
    assert!(lora.contains("rank = 0"), "{lora}");
    let full = refused(Member::weights(Method::Full, 0.1, 1));
    assert!(full.contains("fine_tuning"), "{full}");
}

#[test]
fn prompts_start_from_text_vocabulary_or_noise() {
    let model = model("t5_v10");
    let start = |init: PromptInit, seed: u64| {
        let method = Method::PromptTuning { prompt_length: 6 };
        let member = Member { init, ..Member::prompt(method, 0.3, 0.0, seed) };
        let pack = pack(&model, vec![member], Optimizer::AdamW);
        pack.parameters(0).unwrap().prompt().unwrap().copy()
    };
    // The text has four tokens: rows 4 and 5 repeat the first two.
    let text = start(PromptInit::Text, 1);
    assert!(text.narrow(0, 4, 2).equal(&text.narrow(0, 0, 2)));
    assert!(text.equal(&start(PromptInit::Text, 2)));

    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/t5_v10");
    let weights = std::fs::read(dir.join("model.safetensors")).unwrap();
    let words = &deptune_trainer::tensors::from_bytes(&weights).unwrap()["shared.weight"];
    let drawn = start(PromptInit::Vocabulary, 1);
    for row in 0..6 {
        let same: Tensor = words.eq_tensor(&drawn.get(row)).all_dim(1, false);
        assert!(same.any().int64_value(&[]) == 1, "row {row} is no word's");
    }
    for init in [PromptInit::Vocabulary, PromptInit::Random] {
        assert!(start(init, 1).equal(&start(init, 1)));
        assert!(!start(init, 1).equal(&start(init, 2)));
    }
}

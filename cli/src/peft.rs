//! Adapters in the layout of Hugging Face's PEFT: the same tensors beside PEFT's own
//! `adapter_config.json`.

use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Method, Settings};
use serde_json::{Value, json};

/// PEFT's `adapter_config.json` for a trial of prompt tuning or LoRA; `None` for methods that PEFT
/// does not know. `base` is the model's path in the spec.
pub(crate) fn config(settings: &Settings, model: &ModelConfig, base: &str) -> Option<Value> {
    let task_type = if model.is_decoder() { "CAUSAL_LM" } else { "SEQ_2_SEQ_LM" };
    match settings.method {
        Method::Pt => Some(json!({
            "peft_type": "PROMPT_TUNING",
            "task_type": task_type,
            "base_model_name_or_path": base,
            "inference_mode": true,
            "num_virtual_tokens": settings.prompt_length,
            "token_dim": model.hidden_size(),
            // In front of the encoder alone.
            "num_transformer_submodules": 1,
            "num_attention_heads": model.heads(),
            "num_layers": model.text_layers(),
            "prompt_tuning_init": "RANDOM",
        })),
        Method::Lora => {
            let (modules, transposed) = match model {
                ModelConfig::T5(_) => (&["q", "v"][..], false),
                // One map for queries, keys and values, stored as inputs × outputs.
                ModelConfig::Gpt2(_) => (&["c_attn"][..], true),
                ModelConfig::Llama(_) => (&["q_proj", "v_proj"][..], false),
            };
            Some(json!({
                "peft_type": "LORA",
                "task_type": task_type,
                "base_model_name_or_path": base,
                "inference_mode": true,
                "r": settings.rank,
                "lora_alpha": settings.lora_alpha,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": modules,
                "fan_in_fan_out": transposed,
            }))
        }
        Method::Dept | Method::Full => None,
    }
}

#[cfg(test)]
mod tests {
    use deptune_sweep::spec::{Format, Spec};

    use super::*;

    const MODEL: &str = r#"{"model_type":"t5","d_model":192,"d_kv":64,"d_ff":768,"num_layers":3,
        "num_heads":3,"vocab_size":8064}"#;

    fn of(method: &str, space: &str) -> Option<Value> {
        let model = ModelConfig::parse("config.json", MODEL).unwrap();
        let text = format!(
            "name = 'x'\n[model]\npath = 'm'\n[task]\nname = 'rte'\ntrain = 't'\n\
             [method]\nkind = '{method}'\n[space]\n{space}\n[train]\nsteps = 10\n"
        );
        let spec = Spec::parse(&text, Format::Toml, Some(&model)).unwrap();
        config(&spec.settings(0).unwrap(), &model, "m")
    }

    #[test]
    fn prompt_tuning_and_lora_have_a_configuration() {
        let pt = of("pt", "prompt_lr = 0.3\nprompt_length = 20").unwrap();
        assert_eq!((&pt["num_virtual_tokens"], &pt["token_dim"]), (&json!(20), &json!(192)));
        assert_eq!(pt["task_type"], "SEQ_2_SEQ_LM");
        let lora = of("lora", "learning_rate = 1e-4\nrank = 4").unwrap();
        assert_eq!((&lora["r"], &lora["lora_alpha"]), (&json!(4), &json!(8.0)));
        assert_eq!(lora["target_modules"], json!(["q", "v"]));
        assert_eq!(of("full", "learning_rate = 1e-4"), None);
    }
}

"""Traces of LoRA, full fine-tuning and Adafactor on tiny random models, made with transformers and
peft, for the trainer's own test to replay.

    python methods.py OUT        writes OUT/<model>/{config.json,model.safetensors,runs.json,
                                 <run>.safetensors}
"""

import json
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.optimization import (
    Adafactor,
    AdamW,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

STEPS, WARMUP, ROWS, VOCAB, IGNORED = 20, 4, 4, 48, -100
SCHEDULES = {
    "linear": lambda o: get_linear_schedule_with_warmup(o, WARMUP, STEPS),
    "cosine": lambda o: get_cosine_schedule_with_warmup(o, WARMUP, STEPS),
    "constant": lambda o: get_constant_schedule_with_warmup(o, WARMUP),
}


def models():
    """Shapes of which no two sizes are equal, so that a transposed matrix cannot go unnoticed."""
    t5 = T5Config(
        vocab_size=VOCAB, d_model=24, d_kv=5, num_heads=4, d_ff=28, num_layers=1,
        num_decoder_layers=1, relative_attention_num_buckets=8,
        relative_attention_max_distance=16, dropout_rate=0.0, decoder_start_token_id=0,
    )
    gpt2 = GPT2Config(
        vocab_size=VOCAB, n_positions=64, n_embd=24, n_layer=1, n_head=3, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=1,
    )
    llama = LlamaConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=28, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, max_position_embeddings=64,
        bos_token_id=2, eos_token_id=1, tie_word_embeddings=False, attn_implementation="eager",
    )
    return {
        "t5": (T5ForConditionalGeneration, t5),
        "gpt2": (GPT2LMHeadModel, gpt2),
        "llama": (LlamaForCausalLM, llama),
    }


def runs(name):
    lora = {"method": "lora", "rank": 3, "alpha": 8.0, "optimizer": "adamw"}
    full = {"method": "full", "optimizer": "adamw", "rate": 2e-3, "weight_decay": 0.0}
    pt = {"method": "pt", "prompt_length": 5, "rate": 0.3, "weight_decay": 0.0}
    yield "lora", lora | {"rate": 2e-2, "weight_decay": 0.0, "scheduler": "linear"}
    yield "lora_decay", lora | {"rate": 1e-2, "weight_decay": 0.1, "scheduler": "cosine"}
    yield "full", full | {"scheduler": "linear"}
    if name == "t5":
        yield "full_adafactor", full | {"optimizer": "adafactor", "scheduler": "constant"}
    yield "pt_adafactor", pt | {"optimizer": "adafactor", "scheduler": "constant"}


def batches(decoder, generator):
    """Rows as token ids and answers, both with end token 1 (the text of a decoder has none)."""
    made = []
    for _ in range(STEPS):
        rows = []
        for _ in range(ROWS):
            draw = lambda low, high: int(torch.randint(low, high, (1,), generator=generator))
            text = [draw(3, VOCAB) for _ in range(draw(3, 12))]
            answer = [draw(3, VOCAB) for _ in range(draw(1, 3))] + [1]
            rows.append((text if decoder else text + [1], answer))
        made.append(rows)
    return made


def padded(rows, value):
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def inputs(rows, decoder):
    """Right padding, which leaves a decoder's positions as they are."""
    texts = [text + answer if decoder else text for text, answer in rows]
    labels = [[IGNORED] * len(t) + a if decoder else a for t, a in rows]
    mask = [[1] * len(text) for text in texts]
    return padded(texts, 0), padded(mask, 0), padded(labels, IGNORED)


def loss_of(model, prompt, rows, decoder):
    ids, mask, labels = inputs(rows, decoder)
    if prompt is None:
        return model(input_ids=ids, attention_mask=mask, labels=labels).loss
    words = model.get_input_embeddings()(ids)
    embeds = torch.cat([prompt.expand(len(rows), -1, -1), words], 1)
    front = torch.ones(len(rows), prompt.shape[0], dtype=torch.long)
    mask = torch.cat([front, mask], 1)
    if decoder:
        labels = torch.cat([front * IGNORED, labels], 1)
    return model(inputs_embeds=embeds, attention_mask=mask, labels=labels).loss


def trained(model, prompt):
    """What is trained, under the names of the trainer's adapter files."""
    if prompt is not None:
        return {"prompt_embeddings": prompt}
    names = {}
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            names[name.replace(".default.", ".")] = tensor
    return names


def optimizer_of(facts, tensors):
    if facts["optimizer"] == "adamw":
        return AdamW(
            tensors, lr=facts["rate"], betas=(0.9, 0.999), eps=1e-6,
            weight_decay=facts["weight_decay"], correct_bias=True, no_deprecation_warning=True,
        )
    return Adafactor(
        tensors, lr=facts["rate"], scale_parameter=False, relative_step=False,
        weight_decay=facts["weight_decay"],
    )


def trace(cls, start, config, facts, rows, decoder):
    torch.manual_seed(11)
    model = cls(config)
    model.load_state_dict(start)
    prompt = None
    if facts["method"] == "lora":
        kind = "CAUSAL_LM" if decoder else "SEQ_2_SEQ_LM"
        model = get_peft_model(
            model,
            LoraConfig(
                task_type=kind, r=facts["rank"], lora_alpha=facts["alpha"], lora_dropout=0.0,
                fan_in_fan_out=config.model_type == "gpt2",
            ),
        )
    elif facts["method"] == "pt":
        model.requires_grad_(False)
        table = model.get_input_embeddings().weight
        prompt = torch.nn.Parameter(table[7 : 7 + facts["prompt_length"]].clone())
    model.train()
    own = trained(model, prompt)
    saved = {}
    if facts["method"] != "full":  # which starts from the model
        saved = {f"start.{name}": tensor.detach().clone() for name, tensor in own.items()}
    optimizer = optimizer_of(facts, list(own.values()))
    schedule = SCHEDULES[facts["scheduler"]](optimizer)
    losses = []
    for batch in rows:
        loss = loss_of(model, prompt, batch, decoder)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own.values(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    saved |= {f"final.{name}": tensor.detach().clone() for name, tensor in own.items()}
    return saved, losses


def main(out):
    torch.set_num_threads(1)
    for number, (name, (cls, config)) in enumerate(models().items()):
        directory = out / name
        directory.mkdir(parents=True, exist_ok=True)
        decoder = name != "t5"
        torch.manual_seed(number)
        model = cls(config)
        with torch.no_grad():
            for tensor in model.parameters():
                # Norms and biases of a fresh model are ones and zeros, and hide mistakes.
                tensor.add_(torch.randn_like(tensor) * 0.05)
        model.save_pretrained(directory)
        (directory / "generation_config.json").unlink(missing_ok=True)
        start = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        rows = batches(decoder, torch.Generator().manual_seed(100 + number))
        described = {}
        for run, facts in runs(name):
            saved, losses = trace(cls, start, config, facts, rows, decoder)
            tensors = {key: tensor.contiguous() for key, tensor in saved.items()}
            save_file(tensors, directory / f"{run}.safetensors")
            described[run] = facts | {"losses": losses}
        facts = {"steps": STEPS, "warmup_steps": WARMUP, "batches": rows, "runs": described}
        (directory / "runs.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

"""Makes small random models and what DePT on transformers does with them.

Usage: parity.py DIRECTORY [--seed N] [--times N]

Each case is a directory with a model as transformers saves it (config.json, weights) and one or
two files of a step of DePT: P, A, B, token ids and labels, and, as transformers computes them, the
labels' logits, the loss, the gradients of P, A and B and the greedy answers. `default` counts real
tokens alone; `reference` (decoders) pads on the left and counts padding in training, as the
reference does. Nothing of this project is imported. --times multiplies the sizes.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

S = 16  # max_length
NEW = 5  # tokens of an answer
LENGTHS = [3, 9, 15, 6]
LABELS = [2, 3, 2, 2]  # the third of them is cut by the reference

# name: (class, config, size keys that --times multiplies, format of the file, shard size, m, r)
T5, GPT2, LLAMA = T5ForConditionalGeneration, GPT2LMHeadModel, LlamaForCausalLM
CASES = {
    "t5_one_layer": (
        T5,
        dict(d_model=20, d_kv=6, num_heads=3, d_ff=28, num_layers=1, num_decoder_layers=1,
             vocab_size=83, feed_forward_proj="relu", relative_attention_num_buckets=8,
             relative_attention_max_distance=20),
        ["d_model", "d_ff"], torch.float32, None, 3, 2,
    ),
    "t5_gated_untied": (
        T5,
        dict(d_model=24, d_kv=5, num_heads=2, d_ff=40, num_layers=2, num_decoder_layers=1,
             vocab_size=101, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        ["d_model", "d_ff"], torch.bfloat16, None, 5, 3,
    ),
    "gpt2_odd_heads": (
        GPT2,
        dict(n_embd=27, n_head=3, n_layer=2, n_positions=48, vocab_size=97),
        ["n_embd"], torch.float32, None, 4, 3,
    ),
    "gpt2_untied": (
        GPT2,
        dict(n_embd=20, n_head=5, n_layer=1, n_inner=31, n_positions=40, vocab_size=103,
             tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True),
        ["n_embd", "n_inner"], torch.float16, None, 3, 1,
    ),
    "llama_tied": (
        LLAMA,
        dict(hidden_size=24, num_attention_heads=3, num_key_value_heads=3, num_hidden_layers=1,
             intermediate_size=34, vocab_size=89, max_position_embeddings=64,
             tie_word_embeddings=True),
        ["hidden_size", "intermediate_size"], torch.float32, None, 4, 2,
    ),
    "llama_grouped_sharded": (
        LLAMA,
        dict(hidden_size=20, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
             num_hidden_layers=2, intermediate_size=30, vocab_size=101, rope_theta=500.0,
             max_position_embeddings=64, tie_word_embeddings=False),
        ["hidden_size", "intermediate_size"], torch.float32, "20KB", 3, 3,
    ),
    "llama_one_key_head": (
        LLAMA,
        dict(hidden_size=18, num_attention_heads=6, num_key_value_heads=1, head_dim=10,
             num_hidden_layers=2, intermediate_size=25, vocab_size=75, attention_bias=True,
             mlp_bias=True, max_position_embeddings=64, tie_word_embeddings=False,
             rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0,
                               high_freq_factor=4.0, original_max_position_embeddings=16)),
        ["hidden_size", "intermediate_size"], torch.bfloat16, None, 5, 2,
    ),
}


def scramble(model):
    """Weights large enough that attention and positions matter."""
    for name, weight in model.named_parameters():
        with torch.no_grad():
            if "layer_norm" in name or "norm" in name or ".ln_" in name:
                base = 0.0 if name.endswith("bias") else 1.0
                weight.copy_(base + 0.2 * torch.randn_like(weight))
            elif weight.dim() == 1:
                weight.copy_(0.2 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * 0.9 / weight.shape[-1] ** 0.5)


def pad(rows, value, left=False):
    width = max(len(row) for row in rows)
    fill = [[value] * (width - len(row)) for row in rows]
    return torch.tensor([f + row if left else row + f for f, row in zip(fill, rows)])


def loss_of(logits, labels):
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels))


class Step:
    """One step of DePT by its definition."""

    def __init__(self, model, m, r, seed):
        generator = torch.Generator().manual_seed(seed)
        self.model, self.m = model, m
        d, vocabulary = model.get_input_embeddings().weight.shape[1], model.config.vocab_size
        normal = lambda *shape: torch.randn(*shape, generator=generator)
        self.prompt = normal(m, d).requires_grad_()
        self.a = (normal(S, r) * 0.5).requires_grad_()
        self.b = (normal(r, d) * 0.3).requires_grad_()
        self.scaling = 8 / r**0.5
        draw = lambda n: torch.randint(3, vocabulary, (n,), generator=generator).tolist()
        self.ids = [draw(n) for n in LENGTHS]
        self.labels = [draw(n - 1) + [1] for n in LABELS]
        self.end = 1

    def words(self, ids):
        return self.model.get_input_embeddings()(torch.tensor(ids))

    def offset(self):
        return self.scaling * (self.a @ self.b)

    def t5(self):
        offset = self.offset()
        ids = [row + [0] * (S - len(row)) for row in self.ids]
        mask = torch.tensor([[1] * (self.m + n) + [0] * (S - n) for n in LENGTHS])
        rows = [torch.cat([self.prompt, self.words(row) + offset]) for row in ids]
        inputs = torch.stack(rows)
        labels = pad(self.labels, -100)
        logits = self.model(inputs_embeds=inputs, attention_mask=mask, labels=labels).logits
        answers = self.model.generate(
            inputs_embeds=inputs, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
        )[:, 1:]
        return logits[labels != -100], labels[labels != -100].tolist(), answers

    def answers(self, rows):
        """Rows of embeddings, padded on the left, continued by transformers."""
        width = max(len(row) for row in rows)
        inputs = torch.stack([
            torch.cat([torch.zeros(width - len(row), row.shape[1]), row]) for row in rows
        ])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return self.model.generate(
            inputs_embeds=inputs, attention_mask=mask, max_new_tokens=NEW, do_sample=False,
            pad_token_id=0,
        )

    def default(self):
        offset, logits, texts = self.offset(), [], []
        for ids, labels in zip(self.ids, self.labels):
            text = torch.cat([self.prompt, self.words(ids) + offset[: len(ids)]])
            texts.append(text)
            row = torch.cat([text, self.words(labels)])[None]
            logits.append(self.model(inputs_embeds=row).logits[0, len(text) - 1 : -1])
        return torch.cat(logits), sum(self.labels, []), self.answers(texts)

    def reference(self):
        offset = self.offset()
        both = [(ids + labels)[:S] for ids, labels in zip(self.ids, self.labels)]
        kept = [labels[: max(S - len(ids), 0)] for ids, labels in zip(self.ids, self.labels)]
        padded = [[1] * (S - len(row)) + row for row in both]
        mask = torch.tensor([[1] * self.m + [0] * (S - len(row)) + [1] * len(row) for row in both])
        inputs = torch.stack([torch.cat([self.prompt, self.words(row) + offset]) for row in padded])
        positions = torch.arange(self.m + S)[None].expand(len(both), -1)
        out = self.model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions).logits
        logits = [row[-len(labels) - 1 : -1] for row, labels in zip(out, kept) if labels]
        texts = [
            torch.cat([self.prompt, self.words(ids) + offset[S - len(ids) :]]) for ids in self.ids
        ]
        return torch.cat(logits), sum(kept, []), self.answers(texts)

    def save(self, path, law):
        logits, labels, answers = getattr(self, law)()
        loss = loss_of(logits, labels)
        gradients = torch.autograd.grad(loss, [self.prompt, self.a, self.b])
        rows = []
        for row in answers.tolist():
            end = row.index(self.end) + 1 if self.end in row else len(row)
            rows.append(row[:end])
        tensors = {
            "prompt": self.prompt, "A": self.a, "B": self.b,
            "input_ids": pad(self.ids, -1), "labels": pad(self.labels, -1),
            "logits": logits, "loss": loss[None], "answers": pad(rows, -1),
        } | {f"grad.{name}": g for name, g in zip(["prompt", "A", "B"], gradients)}
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path)
        path.chmod(0o644)


def make(directory, name, seed, times):
    cls, shape, scaled, kind, shards, m, r = CASES[name]
    shape = {key: value * times if key in scaled else value for key, value in shape.items()}
    config = {T5: T5Config, GPT2: GPT2Config, LLAMA: LlamaConfig}[cls]
    special = dict(decoder_start_token_id=0) if cls is T5 else dict(bos_token_id=1, eos_token_id=1)
    shape |= special
    torch.manual_seed(seed)
    model = cls(config(**shape))
    scramble(model)
    place = directory / name
    shutil.rmtree(place, ignore_errors=True)
    model.to(kind).save_pretrained(place, **({"max_shard_size": shards} if shards else {}))
    (place / "generation_config.json").unlink(missing_ok=True)
    for file in place.iterdir():
        file.chmod(0o644)
    # What the file holds, in full precision.
    model = cls.from_pretrained(place, dtype=torch.float32).eval()
    for law in ["t5"] if cls is T5 else ["default", "reference"]:
        step = Step(model, m, r, seed + 1)
        step.save(place / f"{'default' if law == 't5' else law}.step.safetensors", law)
    config = json.loads((place / "config.json").read_text())
    print(f"{name}: {config['model_type']}, {sum(p.numel() for p in model.parameters())} numbers")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("directory", type=pathlib.Path)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--times", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    for number, case in enumerate(CASES):
        make(given.directory, case, given.seed * 1000 + number, given.times)

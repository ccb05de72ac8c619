"""DePT (or prompt tuning, with rank 0) in Python on transformers, one trial per process.

reference: what the authors' recipe computes: fp32, attention as written out, padded to s.
strong: what a careful person would do: bf16, every batch cut to its longest row, attention by
torch's fused kernel or written out, whichever is named.
"""
import argparse
import math

import torch
from transformers import T5ForConditionalGeneration
from transformers.models.t5 import modeling_t5

import arms

parser = argparse.ArgumentParser()
parser.add_argument("recipe", choices=["reference", "strong"])
parser.add_argument("--model", required=True)
parser.add_argument("--lengths", required=True)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--max-length", type=int, default=256)
parser.add_argument("--prompt-length", type=int, default=40)
parser.add_argument("--rank", type=int, default=40)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--attention", choices=["eager", "sdpa"], default="eager")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--cut", action="store_true", help="cut batches in the reference recipe too")
parser.add_argument("--device", default="cpu")
args = parser.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(42)
strong = args.recipe == "strong"
cut = strong or args.cut
kind = torch.bfloat16 if strong else torch.float32
device = torch.device(args.device)

model = T5ForConditionalGeneration.from_pretrained(args.model).to(kind).to(device)
for part in model.modules():
    if isinstance(part, torch.nn.Dropout):
        part.p = args.dropout
    if isinstance(part, modeling_t5.T5Attention):
        part.dropout = args.dropout
model.requires_grad_(False)
model.train()


def fused_attention(self, hidden_states, mask=None, key_value_states=None, position_bias=None,
                    *_, **__):
    """T5Attention.forward with torch's fused kernel."""
    rows, time = hidden_states.shape[:2]
    split = lambda x: x.view(rows, -1, self.n_heads, self.key_value_proj_dim).transpose(1, 2)
    source = hidden_states if key_value_states is None else key_value_states
    query, key, value = split(self.q(hidden_states)), split(self.k(source)), split(self.v(source))
    if position_bias is None:
        keys = key.shape[2]
        if self.has_relative_attention_bias:
            position_bias = self.compute_bias(time, keys, device=query.device)
        else:
            position_bias = torch.zeros((1, self.n_heads, time, keys), dtype=query.dtype, device=query.device)
        if mask is not None:
            position_bias = position_bias + mask[:, :, :, :keys]
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=position_bias.to(query.dtype), scale=1.0,
        dropout_p=self.dropout if self.training else 0.0)
    out = self.o(out.transpose(1, 2).reshape(rows, time, self.inner_dim))
    return out, position_bias, None


if args.attention == "sdpa":
    modeling_t5.T5Attention.forward = fused_attention

d = model.config.d_model
m, r, s = args.prompt_length, args.rank, args.max_length
words = model.shared.weight
prompt = words[torch.tensor([arms.INIT[i % len(arms.INIT)] for i in range(m)], device=device)].float().clone().requires_grad_()
groups = [{"params": [prompt], "lr": 0.3}]
if r:
    a = torch.empty(s, r, device=device)
    torch.nn.init.kaiming_uniform_(a, a=math.sqrt(5))
    a.requires_grad_()
    b = torch.zeros(r, d, device=device, requires_grad=True)
    groups.append({"params": [a, b], "lr": 5e-3})
trained = [tensor for group in groups for tensor in group["params"]]
optimizer = torch.optim.AdamW(groups, eps=1e-6, weight_decay=0.0)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 500))
lengths = arms.lengths(args.lengths)


def loss_of(step):
    """The loss of a batch, and its real tokens."""
    rows = arms.batch(lengths, step, args.batch, s)
    longest = max(len(ids) for ids, _ in rows)
    width = -(-longest // 8) * 8 if cut else s
    width = min(width, s)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width)
    labels = torch.full((len(rows), 3), -100)
    for row, (tokens, target) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, : len(target)] = torch.tensor(target)
    ids, mask, labels = ids.to(device), mask.to(device), labels.to(device)
    inputs = model.shared(ids)
    if r:
        inputs = inputs + ((a @ b) * (8 / math.sqrt(r)))[:width].to(kind)
    inputs = torch.cat([prompt.to(kind).expand(len(rows), m, d), inputs], 1)
    mask = torch.cat([torch.ones(len(rows), m, device=device), mask], 1)
    loss = model(inputs_embeds=inputs, attention_mask=mask, labels=labels).loss
    return loss, sum(len(tokens) + m for tokens, _ in rows)


def update(step):
    loss, tokens = loss_of(step)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    loss.item()
    return tokens


def inference(step):
    model.eval()
    with torch.no_grad():
        loss, tokens = loss_of(step)
    loss.item()
    model.train()
    return tokens


arms.serve(update, args.recipe, inference, args.device)

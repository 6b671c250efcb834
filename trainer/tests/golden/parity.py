"""Writes what transformers and PEFT compute for models of 256 wide, 4 layers, heads of 96 and a vocabulary of 4,097. Those are too large to keep: weights and
batches are drawn from ChaCha8, which `parity/drawn.rs` draws alike, and of results there are sums alone. A tensor is told by its length and its dot products with
16 vectors of ±1: the mean square of what those of two tensors differ by is the square of the tensors' distance, whatever direction that has.

    make.py's environment, and venv/bin/python parity.py
"""

import hashlib
import json

import numpy as np
import peft
import torch
import transformers
from make import CASES, HERE, LORA_RATE, RATE, backward, groups, prepare, trained, walk
from safetensors.torch import save_file

SHAPE = dict(hidden_size=256, intermediate_size=448, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=96,
             vocab_size=4097, max_position_embeddings=256, attn_implementation="eager")
LENGTHS = (40, 24)
TOKENS = sum(LENGTHS)
BATCHES = 32
SIGNS = 16
PLACES = 512
ADAPTED = ("qwen3-tied", "qwen2")
SMALL_RATE = 1e-5
SPREAD = {"lora_A.weight": 0.04, "lora_B.weight": 0.02}


def words(what, count):
    """The first numbers of the stream that has the sha256 of `what` for a key, as `rand_chacha` gives them."""
    blocks = np.arange(-(-count // 16), dtype=np.uint64)
    start = np.zeros((16, len(blocks)), np.uint32)
    start[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    start[4:12] = np.frombuffer(hashlib.sha256(what.encode()).digest(), "<u4")[:, None]
    start[12] = blocks
    state = start.copy()
    columns = [(at, at + 4, at + 8, at + 12) for at in range(4)]
    diagonals = [(at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4) for at in range(4)]
    for _ in range(4):
        for a, b, c, d in columns + diagonals:
            for to, by, at, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                state[to] += state[by]
                state[at] ^= state[to]
                state[at] = state[at] << turn | state[at] >> 32 - turn
    return (state + start).T.reshape(-1)[:count]


def noise(what, count):
    """Nearly normal, and exact: six numbers of 16 bits added up, less their mean, over their spread."""
    sums = words(what, 3 * count).view("<u2").reshape(count, 6).sum(1, dtype=np.uint32)
    return (sums.astype(np.float32) - np.float32(196605)) * (np.float32(2**0.5) / np.float32(65536))


def draw(case, name, shape):
    """Values that bf16 can hold: norms off one, everything else, biases too, as four times transformers' initial weights; adapters as nothing begins with, so
    that both their factors have gradients."""
    values = noise(f"{case}/{name}", int(np.prod(shape))).reshape(tuple(shape))
    if name.endswith("norm.weight"):
        values = np.float32(1) + np.float32(0.3) * values
    else:
        values = np.float32(next((spread for end, spread in SPREAD.items() if name.endswith(end)), 0.08)) * values
    return torch.from_numpy(values).bfloat16().float()


def batches(case):
    """Token ids, and which of them carry loss, a pair a sequence."""
    every = words(f"{case}/ids", BATCHES * TOKENS).reshape(BATCHES, TOKENS)
    ids = torch.from_numpy((every % SHAPE["vocab_size"]).astype(np.int64))
    mask = torch.from_numpy(words(f"{case}/mask", BATCHES * TOKENS).reshape(BATCHES, TOKENS) % 5 < 3)
    return [list(zip(ids[at].split(LENGTHS), mask[at].split(LENGTHS))) for at in range(BATCHES)]


def plain(name):
    """A parameter's name as it is in files."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".default", "")


def build(case, dtype):
    """A case's model; one that ends with `-lora` is that of the case before it, with adapters."""
    base = case.removesuffix("-lora")
    model = transformers.AutoModelForCausalLM.from_config(CASES[base](SHAPE), dtype=dtype, attn_implementation="eager").eval()
    config = json.loads(model.config.to_json_string(use_diff=True))
    if base != case:
        settings = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, settings, autocast_adapter_dtype=False).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(draw(base, plain(name), weight.shape))
    return model, config


def digest(model):
    """Of all weights in f32, by their names."""
    weights = {plain(name): weight for name, weight in model.named_parameters()}
    return hashlib.sha256(b"".join(weights[name].detach().numpy().tobytes() for name in sorted(weights))).hexdigest()


def trained_tensors(model):
    return {plain(name): weight for name, weight in model.named_parameters() if weight.requires_grad}


def sums(name, values):
    """A tensor's dot products with vectors of ±1, and its length."""
    values = values.detach().double().numpy().reshape(-1)
    signs = words(f"signs/{name}", values.size)
    return [values @ (1.0 - 2.0 * (signs >> at & 1)) for at in range(SIGNS)] + [np.linalg.norm(values)]


def table(tensors):
    return torch.tensor(np.array([sums(name, tensors[name]) for name in sorted(tensors)]))


def gradients(model, sequences):
    loss, logits = backward(model, sequences)
    return loss, logits, {name: weight.grad.clone() for name, weight in trained_tensors(model).items()}


def stepped(case, rate, sequences):
    """Losses and norms of 60 steps, and how far these move each tensor."""
    model, _ = build(case, torch.float32)
    before = {name: weight.detach().clone() for name, weight in trained_tensors(model).items()}
    walked = walk(model, sequences, groups(model), rate)
    return walked, {name: weight.detach() - before[name] for name, weight in trained_tensors(model).items()}


def golden(case):
    every = batches(case)
    model, config = build(case, torch.float32)
    half, _ = build(case, torch.bfloat16)
    loss, logits, exact = gradients(model, every[0])
    _, _, rounded = gradients(half, every[0])
    with torch.no_grad():
        losses, half_losses = ([forward(each, sequences) for sequences in every] for each in (model, half))
    places = torch.from_numpy(words(f"{case}/places", PLACES) % logits.numel())
    walked, moved = stepped(case, LORA_RATE if case.endswith("-lora") else RATE, every[0])
    _, moved_little = stepped(case, SMALL_RATE, every[0])
    off = [abs(a - b) for a, b in zip(losses, half_losses)]
    cosines = {name: torch.cosine_similarity(exact[name].flatten(), rounded[name].float().flatten(), dim=0).item() for name in exact}
    lowest = min(cosines, key=cosines.get)
    print(f"{case}: loss {loss:.6f} over {trained(every[0])} tokens; in bf16 off by up to {max(off):.1e}, root mean square "
          f"{np.sqrt(np.mean(np.square(off))):.1e}; smallest cosine {cosines[lowest]:.4f} ({lowest})", flush=True)
    return {"config": config, "sha256": digest(model)}, {
        "ids": torch.stack([torch.cat([ids for ids, _ in sequences]) for sequences in every]).to(torch.uint32),
        "mask": torch.stack([torch.cat([mask for _, mask in sequences]) for sequences in every]).to(torch.uint8),
        "losses": torch.tensor(losses, dtype=torch.float64), "half_losses": torch.tensor(half_losses, dtype=torch.float64),
        "places": places, "logits": logits.flatten()[places.long()], "logit_sums": torch.tensor(sums("logits", logits), dtype=torch.float64),
        "gradients": table(exact), "step_losses": walked["losses"], "step_norms": walked["norms"], "moved": table(moved),
        "moved_little": torch.tensor([moved_little[name].double().norm().item() for name in sorted(moved_little)], dtype=torch.float64)}


def forward(model, sequences):
    """The mean loss over all trained tokens."""
    parts = (model(input_ids=ids[None], labels=torch.where(mask, ids, torch.tensor(-100))[None], num_items_in_batch=trained(sequences))
             for ids, mask in sequences)
    return sum(part.loss.item() for part in parts)


def main():
    prepare()
    told, tensors = {}, {}
    for case in [*CASES, *(f"{base}-lora" for base in ADAPTED)]:
        told[case], results = golden(case)
        tensors |= {f"{case}/{name}": tensor.contiguous() for name, tensor in results.items()}
    save_file(tensors, HERE / "parity.safetensors")
    (HERE / "parity.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Writes what transformers and PEFT compute for models that are 256 wide, of 4 layers, with heads of 96 and a vocabulary of 4,097. Those are too large
to keep: weights and sequences are drawn from ChaCha8, as `../parity/drawn.rs` draws them, and of results there are sums. A tensor is told by its length
and by its dot products with 16 vectors of ±1: the mean square of what those of two tensors differ by is the square of the tensors' distance, whichever
way that points.

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
ADAPTED = ("qwen3-tied", "qwen2")
# Gradients and steps are those of the first two.
LENGTHS = (40, 24) * 8
SIGNS = 16
PLACES = 512
SMALL_RATE = 1e-5


def words(what, count):
    """The first numbers of the stream that has the sha256 of `what` for a key, as `rand_chacha` gives them."""
    blocks = np.arange(-(-count // 16), dtype=np.uint32)
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
    """Nearly normal, and the same everywhere: six numbers of 16 bits added up, less their mean, over their spread."""
    sums = words(what, 3 * count).view("<u2").reshape(count, 6).sum(1, dtype=np.uint32)
    return (sums.astype(np.float32) - np.float32(196605)) * (np.float32(2**0.5) / np.float32(65536))


def draw(base, name, shape):
    """Norms around one, all else, biases too, as four times transformers' initial weights, and adapters so that both factors have gradients."""
    values = noise(f"{base}/{name}", int(np.prod(shape))).reshape(tuple(shape))
    if name.endswith("norm.weight"):
        return torch.from_numpy(np.float32(1) + np.float32(0.3) * values)
    spread = {"lora_A": 0.04, "lora_B": 0.02}.get(name.split(".")[-2], 0.08)
    return torch.from_numpy(np.float32(spread) * values)


def sequences(case):
    """Token ids, and which of them carry loss, a pair a sequence."""
    count = sum(LENGTHS)
    ids = torch.from_numpy((words(f"{case}/ids", count) % SHAPE["vocab_size"]).astype(np.int64))
    mask = torch.from_numpy(words(f"{case}/mask", count) % 5 < 3)
    return list(zip(ids.split(LENGTHS), mask.split(LENGTHS)))


def plain(name):
    """A parameter's name as it is in files."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".default", "")


def build(case, dtype=torch.float32, fresh=False):
    """A case's model, with weights that bf16 can hold; a fresh one has them as they were drawn, and adapters that change nothing yet, as PEFT begins. A
    case that ends with `-lora` is the case that it begins with, with adapters."""
    base = case.removesuffix("-lora")
    model = transformers.AutoModelForCausalLM.from_config(CASES[base](SHAPE), dtype=dtype, attn_implementation="eager")
    if base != case:
        settings = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = draw(base, plain(name), weight.shape)
            weight.copy_(drawn * (".lora_B." not in name) if fresh else drawn.bfloat16())
    return model.eval()


def digest(base, names):
    """Of all weights as they were drawn."""
    return hashlib.sha256(b"".join(draw(base, name, shape).numpy().tobytes() for name, shape in sorted(names.items()))).hexdigest()


def trained_tensors(model):
    return {plain(name): weight for name, weight in model.named_parameters() if weight.requires_grad}


def sums(name, values):
    """A tensor's dot products with vectors of ±1, and its length."""
    values = values.detach().double().numpy().reshape(-1)
    signs = words(f"signs/{name}", values.size)
    return [values @ (1.0 - 2.0 * (signs >> at & 1)) for at in range(SIGNS)] + [np.linalg.norm(values)]


def table(tensors):
    return torch.tensor(np.array([sums(name, tensors[name]) for name in sorted(tensors)]))


def gradients(model, of):
    """The loss, the logits and every gradient."""
    loss, logits = backward(model, of)
    return loss, logits, {name: weight.grad for name, weight in trained_tensors(model).items()}


def token_losses(model, of):
    """−ln p of each token that has one before it."""
    with torch.no_grad():
        logits = [model(input_ids=ids[None]).logits[0].double() for ids, _ in of]
    return torch.cat([torch.nn.functional.cross_entropy(each[:-1], ids[1:], reduction="none") for each, (ids, _) in zip(logits, of)])


def stepped(case, rate, of, fresh):
    """Losses and norms of 60 steps, and how far these move each tensor."""
    model = build(case, fresh=fresh)
    before = {name: weight.detach().clone() for name, weight in trained_tensors(model).items()}
    walked = walk(model, of, groups(model), rate)
    return walked, {name: weight.detach() - before[name] for name, weight in trained_tensors(model).items()}


def golden(case):
    every = sequences(case)
    first = every[:2]
    model, half = build(case), build(case, torch.bfloat16)
    loss, logits, exact = gradients(model, first)
    _, _, rounded = gradients(half, first)
    losses, half_losses = (token_losses(each, every) for each in (model, half))
    places = torch.from_numpy(words(f"{case}/places", PLACES) % logits.numel())
    walked, moved = stepped(case, LORA_RATE if case.endswith("-lora") else RATE, first, fresh=False)
    _, moved_little = stepped(case, SMALL_RATE, first, fresh=True)
    learnt = torch.cat([mask[1:] for _, mask in every])
    off = half_losses - losses
    cosines = {name: torch.cosine_similarity(exact[name].flatten(), rounded[name].float().flatten(), dim=0).item() for name in exact}
    lowest = min(cosines, key=cosines.get)
    print(f"{case}: loss {loss:.6f} over {trained(first)} tokens, {losses[learnt].mean():.6f} over {learnt.sum()}; in bf16 the latter is off by "
          f"{abs(off[learnt].mean()):.1e}, a token by {off.square().mean().sqrt():.1e}; smallest cosine {cosines[lowest]:.4f} ({lowest})", flush=True)
    shapes = {plain(name): weight.shape for name, weight in model.named_parameters()}
    return digest(case.removesuffix("-lora"), shapes), {
        "loss": torch.tensor([loss], dtype=torch.float64), "token_losses": losses.float(), "half_token_losses": half_losses.float(),
        "places": places, "logits": logits.flatten()[places.long()], "logit_sums": torch.tensor(sums("logits", logits), dtype=torch.float64),
        "gradients": table(exact), "step_losses": walked["losses"], "step_norms": walked["norms"], "moved": table(moved),
        "moved_little": torch.tensor([moved_little[name].double().norm().item() for name in sorted(moved_little)], dtype=torch.float64)}


def main():
    prepare()
    told, tensors = {}, {}
    for case in [*CASES, *(f"{base}-lora" for base in ADAPTED)]:
        weights, results = golden(case)
        config = CASES[case.removesuffix("-lora")](SHAPE).to_json_string(use_diff=True)
        told[case] = {"weights": weights, "config": json.loads(config)}
        tensors |= {f"{case}/{name}": tensor.contiguous() for name, tensor in results.items()}
    save_file(tensors, HERE / "parity.safetensors")
    (HERE / "parity.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()

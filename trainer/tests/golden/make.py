"""Writes what transformers computes for small models: their weights, one batch of two sequences, its logits, loss and every gradient, and for one model
the weights after 60 steps of AdamW, and what PEFT makes of adapters beside it in as many. The fixtures can fail: heads are not hidden / heads wide, weights are spread as four times the usual initial ones
in a model of 256, normalisation weights and biases are off one and zero. `parity.py` does the same for larger models.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors && venv/bin/python make.py
"""

import math
import pathlib

import peft
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
PINNED = {"torch": ("2.15.0", torch.__version__.split("+")[0]), "transformers": ("5.24.0", transformers.__version__),
          "peft": ("0.21.2", peft.__version__)}

HIDDEN = 40
LENGTHS = (19, 11)
SHAPE = dict(hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=14,
             vocab_size=257, max_position_embeddings=64, attn_implementation="eager")
LLAMA3 = dict(rope_type="llama3", rope_theta=10_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
CASES = {
    "qwen3-tied": lambda shape: transformers.Qwen3Config(
        **shape, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "qwen3-untied": lambda shape: transformers.Qwen3Config(
        **shape, rms_norm_eps=1e-6, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "qwen2": lambda shape: transformers.Qwen2Config(
        **shape, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "llama3": lambda shape: transformers.LlamaConfig(
        **shape, rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters=LLAMA3 | dict(original_max_position_embeddings=shape["max_position_embeddings"] // 4)),
    "llama-bias": lambda shape: transformers.LlamaConfig(
        **shape, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e5)),
}
STEPPED = "qwen3-tied"
STEPS, WARM_UP, RATE, CLIP = 60, 6, 1e-4, 1.0
LORA_RATE = 1e-3


def build(config, seed):
    """A model with weights that bf16 can hold, so that the fixture is small and exact."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            if name.endswith("norm.weight"):
                weight.copy_(1 + 0.3 * noise)
            elif "embed_tokens" in name:
                weight.copy_(0.08 * noise)
            else:
                weight.copy_(0.08 * math.sqrt(256 / HIDDEN) * noise)
            weight.copy_(weight.bfloat16().float())
    return model


def batch(seed):
    """Token ids and which of them carry loss, a pair a sequence."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randint(0, SHAPE["vocab_size"], (length,), generator=generator),
             torch.rand(length, generator=generator) < 0.6) for length in LENGTHS]


def trained(sequences):
    return sum(int(mask[1:].sum()) for _, mask in sequences)


def backward(model, sequences):
    """Each sequence on its own, so that nothing is packed or padded here: the mean loss over all trained tokens, its gradients left in the model."""
    model.zero_grad()
    total, logits = 0.0, []
    for ids, mask in sequences:
        labels = torch.where(mask, ids, torch.tensor(-100))
        output = model(input_ids=ids[None], labels=labels[None], num_items_in_batch=trained(sequences))
        output.loss.backward()
        total += output.loss.item()
        logits.append(output.logits[0].detach())
    return total, torch.cat(logits)


def walk(model, sequences, groups, rate):
    """Takes 60 steps on one batch, as transformers' Trainer takes them: the loss and the gradient's norm of each."""
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), eps=1e-8)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, WARM_UP, STEPS)
    losses, norms = [], []
    for _ in range(STEPS):
        losses.append(backward(model, sequences)[0])
        norms.append(torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CLIP).item())
        optimizer.step()
        schedule.step()
    return {"losses": torch.tensor(losses, dtype=torch.float64), "norms": torch.tensor(norms, dtype=torch.float64)}


def groups(model):
    """What decays and what does not: norms and biases."""
    exempt = lambda name: name.endswith("norm.weight") or name.endswith(".bias")
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return [dict(params=[weight for name, weight in trained if exempt(name) == left_out], weight_decay=0.0 if left_out else 0.01)
            for left_out in (False, True)]


def steps(model, sequences):
    """The weights after 60 steps."""
    walked = walk(model, sequences, groups(model), RATE)
    return {f"after/{name}": weight.detach().clone() for name, weight in model.named_parameters()} | {"norms": walked["norms"]}


def adapters(model, prefix):
    """PEFT's adapters by the names that they have in an adapter's file."""
    state = peft.get_peft_model_state_dict(model)
    return {prefix + name.removeprefix("base_model.model."): tensor.detach().clone() for name, tensor in state.items()}


def lora(seed, sequences):
    """Adapters beside the stepped model, before and after 60 steps."""
    base = build(CASES[STEPPED](SHAPE), seed)
    settings = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(1)
    model = peft.get_peft_model(base, settings)
    before = adapters(model, "before/")
    return before | walk(model, sequences, groups(model), LORA_RATE) | adapters(model, "after/")


def prepare():
    """Lets no other version write the fixtures, and no number of threads decide about them."""
    for name, (pinned, found) in PINNED.items():
        if pinned != found:
            raise SystemExit(f"{name} is {found}, and {pinned} wrote the fixtures")
    torch.set_num_threads(1)


def main():
    prepare()
    for seed, (case, config) in enumerate(CASES.items()):
        model, sequences = build(config(SHAPE), seed), batch(100 + seed)
        loss, logits = backward(model, sequences)
        tensors = {f"weight/{name}": weight.detach().bfloat16() for name, weight in model.named_parameters()}
        tensors |= {f"gradient/{name}": weight.grad.clone() for name, weight in model.named_parameters()}
        tensors |= {
            "ids": torch.cat([ids for ids, _ in sequences]), "mask": torch.cat([mask for _, mask in sequences]).to(torch.uint8),
            "lengths": torch.tensor(LENGTHS), "loss": torch.tensor([loss], dtype=torch.float64), "logits": logits}
        if case == STEPPED:
            save_file(lora(seed, sequences), HERE / "lora.safetensors")
            tensors |= steps(model, sequences)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / f"{case}.safetensors")
        model.config.to_json_file(HERE / f"{case}.json", use_diff=True)
        print(f"{case}: loss {loss:.6f} over {trained(sequences)} tokens")


if __name__ == "__main__":
    main()

"""Tokens a second and peak memory of full training in f32 on this machine's CPU with PyTorch: the rows of `sera-trainer bench`, by transformers' models with
PyTorch's own attention, and by torch's AdamW. `kept` is without, `again` with gradient checkpointing. With the program's path each row of its own stands
before that of PyTorch, minutes apart at most: a machine that others use too is slower for both.

    python bench.py [threads] [row,row…] [steps] [target/release/sera-trainer]
"""

import os
import subprocess
import sys
import time

ROWS = {"small-kept": ("small", False), "small-again": ("small", True), "smol-kept": ("smol", False), "smol-again": ("smol", True)}


def peak():
    """The most that was resident so far, in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM:"))


def built(name):
    import transformers
    if name == "small":
        config = transformers.Qwen3Config(
            hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
            vocab_size=4096, tie_word_embeddings=False, use_cache=False)
        return config, "5.25M, 4 × 512 tokens", 4, 512
    config = transformers.LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
        vocab_size=49152, tie_word_embeddings=True, use_cache=False, rms_norm_eps=1e-5, rope_theta=1e5)
    return config, "135M, 1 × 2,048 tokens", 1, 2048


def measure(threads, row, steps):
    import torch
    import transformers
    torch.set_num_threads(threads)
    name, checkpointing = ROWS[row]
    config, title, lines, length = built(name)
    # What importing takes is there before: the model's classes are imported when one is first made.
    tiny = transformers.AutoConfig.for_model(
        config.model_type, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, vocab_size=8)
    transformers.AutoModelForCausalLM.from_config(tiny, dtype=torch.float32, attn_implementation="sdpa")
    before = peak()
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    ids = torch.tensor([[(t * 7919 + at * 104729 + t * t * 31) % config.vocab_size for t in range(length)] for at in range(lines)])
    seconds = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - begin)
    seconds = sorted(seconds[1:])
    speed = lines * length / seconds[len(seconds) // 2]
    products = sum(each.numel() for part, each in model.named_parameters()
                   if each.dim() == 2 and (config.tie_word_embeddings or part != "model.embed_tokens.weight"))
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    flops = 6 * (products + attention * length / 2) * speed / 1e9
    how = "activations computed again" if checkpointing else "activations kept"
    print(f"| {title}, {how} | {speed:.0f} | {flops:.1f} | {peak()} | {before} |", flush=True)


def main():
    threads, rows, steps, program = (sys.argv[1:] + ["2", "", "5", ""][len(sys.argv) - 1:])[:4]
    if len(sys.argv) == 5 and program == "measure":
        return measure(int(threads), rows, int(steps))
    print("| | tokens/s | GFLOP/s | peak, MiB | before, MiB |\n|---|---|---|---|---|", flush=True)
    for row in rows.split(",") if rows else ROWS:
        if program:
            environment = os.environ | {"RAYON_NUM_THREADS": threads, "CANDLE_NUM_THREADS": threads}
            subprocess.run([program, "bench", "--row", row, "--steps", steps], check=True, env=environment)
        line = subprocess.run([sys.executable, __file__, threads, row, steps, "measure"], check=True, capture_output=True, text=True).stdout
        print(line.replace("| ", "| PyTorch, ", 1), end="", flush=True)


if __name__ == "__main__":
    main()

"""Tokens a second of full training in f32 on this machine's CPU with PyTorch: what `throughput.rs` beside it does, by transformers' Qwen3 with PyTorch's own
attention, and by torch's AdamW.

    python throughput.py [threads]
"""

import sys
import time

import torch
import transformers

LINES, LENGTH, VOCABULARY, STEPS = 4, 512, 4096, 8


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    config = transformers.Qwen3Config(
        hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
        vocab_size=VOCABULARY, tie_word_embeddings=False, attn_implementation="sdpa", use_cache=False)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    ids = torch.tensor([[(t * 7919 + at * 104729 + t * t * 31) % VOCABULARY for t in range(LENGTH)] for at in range(LINES)])
    seconds, losses = [], []
    for _ in range(STEPS):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    seconds = sorted(seconds[1:])
    rate = [LINES * LENGTH / each for each in (seconds[len(seconds) // 2], seconds[0])]
    print(f"tokens/s: {rate[0]:.0f} median, {rate[1]:.0f} fastest of {STEPS - 1} steps; loss {losses[0]:.4f} to {losses[-1]:.4f}")


if __name__ == "__main__":
    main()

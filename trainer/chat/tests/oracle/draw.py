#!/usr/bin/env python3
"""Draws conversations with Qwen3's template and writes them with what Hugging Face transformers makes of each: drawn.jsonl.

    v/bin/python draw.py QWEN3_DIR        # as for render.py

Turns, thinking, tool calls with arguments of any shape, several tool results in a row and texts in many scripts are put together at random, from a
fixed seed: what nobody thought of when writing cases.json.
"""

import hashlib
import json
import random
import sys
from pathlib import Path

from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
COUNT = 240

WORDS = (
    "the function returns None when amount is negative; größer Ünïcödé 日本語 テスト 한국어 русский עברית हिन्दी 🦀 👩‍💻 é e\u0301 "
    "don't I'll  two  blanks\ttab <b>&amp;</b> C:\\path\\to \"quoted\" 3.14159 1e-7 0x1F def if: else: return self.total += x[i] != y && !z "
    "<|im_end|> <|im_start|>user <think> </think> <tool_call> {\"a\": 1} #include <stdio.h> // /* */ --- *** ___ ``` \u2028 \u00a0 \ufeff"
).split(" ")
NAMES = ["bash", "str_replace_editor", "submit", "größe_messen"]


def words(random, most):
    joined = random.choice([" ", " ", " ", "\n", "\n\n", "\n    "])
    return joined.join(random.choice(WORDS) for _ in range(random.randint(1, most)))


def value(random, depth=0):
    kinds = ["text", "whole", "float", "bool", "none"] + (["list", "object"] if depth < 2 else [])
    kind = random.choice(kinds)
    if kind == "text":
        return words(random, 6)
    if kind == "whole":
        return random.choice([0, -1, 7, 2**31, 2**53 + 1, -(10**15)])
    if kind == "float":
        return random.choice([0.1, -2.5, 1e-07, 1e16, 123456.789, 5e-324, 1.0])
    if kind == "bool":
        return random.random() < 0.5
    if kind == "none":
        return None
    if kind == "list":
        return [value(random, depth + 1) for _ in range(random.randint(0, 3))]
    return {words(random, 2): value(random, depth + 1) for _ in range(random.randint(0, 3))}


def call(random):
    arguments = {random.choice(["command", "path", "ids", "größe"]): value(random) for _ in range(random.randint(0, 2))}
    if random.random() < 0.4:
        arguments = json.dumps(arguments, ensure_ascii=random.random() < 0.5)
    function = {"name": random.choice(NAMES), "arguments": arguments}
    return {"type": "function", "id": "call_0", "function": function} if random.random() < 0.7 else function


def assistant(random):
    message = {"role": "assistant", "content": words(random, 14) if random.random() < 0.85 else ""}
    thinking = random.random()
    if thinking < 0.35:
        message["content"] = f"<think>\n{words(random, 10)}\n</think>\n\n{message['content']}"
    elif thinking < 0.6:
        message["reasoning_content"] = words(random, 10)
    if random.random() < 0.5:
        message["tool_calls"] = [call(random) for _ in range(random.choice([1, 1, 1, 2, 3]))]
    return message


def tool(random):
    function = {
        "name": random.choice(NAMES),
        "description": words(random, 8),
        "parameters": {"type": "object", "properties": {"command": {"type": "string", "default": value(random)}}},
    }
    return {"type": "function", "function": function} if random.random() < 0.8 else function


def conversation(random):
    messages = [{"role": "system", "content": words(random, 12)}] if random.random() < 0.7 else []
    messages.append({"role": "user", "content": words(random, 20)})
    for _ in range(random.randint(0, 4)):
        answer = assistant(random)
        messages.append(answer)
        if "tool_calls" in answer:
            messages += [{"role": "tool", "content": words(random, 20)} for _ in answer["tool_calls"]]
        elif random.random() < 0.8:
            messages.append({"role": "user", "content": words(random, 12)})
    drawn = {"messages": messages}
    if random.random() < 0.5:
        drawn["tools"] = [tool(random) for _ in range(random.randint(1, 3))]
    if random.random() < 0.5:
        drawn["generation_prompt"] = True
        if random.random() < 0.4:
            drawn["variables"] = {"enable_thinking": random.random() < 0.5}
    return drawn


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def main():
    tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
    template = (HERE / "templates" / "qwen3.jinja").read_text()
    lines = []
    for number in range(COUNT):
        drawn = conversation(random.Random(number))
        text = tokenizer.apply_chat_template(
            drawn["messages"],
            tools=drawn.get("tools"),
            chat_template=template,
            tokenize=False,
            add_generation_prompt=drawn.get("generation_prompt", False),
            **drawn.get("variables", {}),
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        drawn["text"] = digest(text)
        drawn["tokens"] = {"count": len(ids), "sha256": digest(json.dumps(ids, separators=(",", ":")))}
        lines.append(json.dumps(drawn, ensure_ascii=False) + "\n")
    (HERE / "drawn.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()

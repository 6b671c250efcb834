"""Reads files of lines as axolotl and transformers do: with Hugging Face's `datasets`, and, where a student's directory is named, with its chat template.

    python readers.py [--student DIR] FILE…

Prints the number of lines of each file; whatever is not as it should be ends it.
"""

import json
import sys

import datasets

arguments = sys.argv[1:]
tokenizer = None
if arguments[0] == "--student":
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments[1])
    arguments = arguments[2:]

for file in arguments:
    lines = datasets.load_dataset("json", data_files=file, split="train")
    with open(file, encoding="utf-8") as plain:
        expected = [json.loads(line) for line in plain]
    assert len(lines) == len(expected), file
    for line, raw in zip(lines, expected):
        assert line["instance_id"] == raw["instance_id"]
        for message, raw_message in zip(line["messages"], raw["messages"], strict=True):
            # What a message has not is None in a table; what it has is unchanged.
            for key, value in message.items():
                if key == "tool_calls" and value is not None:
                    value = json.loads(json.dumps(value))
                assert value == raw_message.get(key), (file, key)
            assert message["train"] == (message["role"] == "assistant")
        if tokenizer is not None:
            tools = json.loads(line["tool_json"]) if line.get("tool_json") else None
            text = tokenizer.apply_chat_template(line["messages"], tools=tools, tokenize=False)
            for message in line["messages"]:
                assert message["content"] in text and (message.get("reasoning_content") or "") in text
    print(file, len(lines))

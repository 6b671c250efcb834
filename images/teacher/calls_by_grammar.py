"""llama-cpp-python's server with a chat format in which even the smallest model calls tools: a grammar, made of the tools that are offered, lets it write
nothing but one call. Which tool, and with what arguments, is the model's own choice. Options are those of `python -m llama_cpp.server`.

Of every SERA_FREE_ANSWERS answers (5) one is written without the grammar, so that a client meets answers without a call too.
"""

import itertools
import json
import os

from llama_cpp import LlamaGrammar, llama_chat_format
from llama_cpp.server.__main__ import main

FREE_ANSWERS = int(os.environ.get("SERA_FREE_ANSWERS", "5"))
# How long a text in a call's arguments may be, in characters: a model of this size does not come to an end by itself.
LONGEST = 160
answers = itertools.count(1)


def bounded(schema):
    """A schema whose texts and lists come to an end."""
    if isinstance(schema, list):
        return [bounded(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: bounded(value) for key, value in schema.items() if key != "description" or isinstance(value, dict)}
    if kept.get("type") == "string" and "enum" not in kept:
        kept["maxLength"] = LONGEST
    return kept


def one_call_of(tools):
    calls = []
    for tool in tools:
        function = tool["function"]
        arguments = bounded(function.get("parameters") or {"type": "object", "properties": {}})
        properties = {"name": {"const": function["name"]}, "arguments": arguments}
        calls.append({"type": "object", "properties": properties, "required": ["name", "arguments"]})
    return LlamaGrammar.from_json_schema(json.dumps({"anyOf": calls}), verbose=False)


def prompt_of(messages, tools):
    """ChatML, with tools, calls and their answers as Hermes writes them."""
    parts = []
    for message in messages:
        role, content = message["role"], message.get("content") or ""
        if role == "system" and tools:
            content += "\n\n# Tools\n\n" + "\n".join(json.dumps(tool["function"]) for tool in tools)
        for call in message.get("tool_calls") or []:
            function = call["function"]
            content += f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}\n</tool_call>'
        if role == "tool":
            role, content = "user", f"<tool_response>\n{content}\n</tool_response>"
        parts.append(f"<|im_start|>{role}\n{content}<|im_end|>\n")
    return "".join(parts) + "<|im_start|>assistant\n"


@llama_chat_format.register_chat_completion_handler("calls-by-grammar")
def answer(*, llama, messages, tools=None, temperature=0.2, max_tokens=None, model=None, **_):
    calls = bool(tools) and next(answers) % FREE_ANSWERS != 0
    options = {"temperature": temperature, "max_tokens": max_tokens, "model": model, "stop": ["<|im_end|>"]}
    written = llama.create_completion(prompt=prompt_of(messages, tools), grammar=one_call_of(tools) if calls else None, **options)
    choice = written["choices"][0]
    message, finish = {"role": "assistant", "content": choice["text"]}, choice["finish_reason"]
    if calls and finish != "length":
        call = json.loads(choice["text"])
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
        message |= {"content": None, "tool_calls": [{"id": f"call-{written['id']}", "type": "function", "function": function}]}
        finish = "tool_calls"
    choices = [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}]
    return {**written, "object": "chat.completion", "choices": choices}


main()

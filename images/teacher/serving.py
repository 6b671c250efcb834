#!/usr/bin/env python3
"""Asks a running `sera-teacher serve` as its clients do, with the `openai` package from PyPI, and prints what docs/serving.md shows.

    serving.py --url http://127.0.0.1:8000/v1 --model tiny [--beside URL] [--transformers DIR]

--beside is another server of the same model (llama.cpp's), asked the same for its tokens a second; --transformers the directory of the model, whose
most likely answers are to be the same token for token (needs torch and transformers). Ends with 1 where something is not as it should be.
"""

import argparse
import concurrent.futures
import json
import statistics
import sys
import time

import openai

TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Shows a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    },
}
QUESTIONS = ["What is a monad?", "Write a long story about a fox.", "List the first ten prime numbers.", "def fibonacci(n):"]
# A beginning that many conversations share, as an agent's system message is: about 1,500 tokens.
RULES = "You are a careful engineer. " + " ".join(f"Rule {n}: look at the code before you change it, and say what you saw." for n in range(80))

failures = []


def check(what, holds, shown=""):
    print(f"  {'ok  ' if holds else 'FAIL'} {what} {shown}")
    if not holds:
        failures.append(what)


def user(content):
    return {"role": "user", "content": content}


def client(url):
    return openai.OpenAI(base_url=url, api_key="none", timeout=600, max_retries=0)


def timed(server, model, messages, tokens, **more):
    """The text of a streamed answer, seconds to its first piece, tokens a second after it, and the counts."""
    began, first, text, usage = time.monotonic(), None, "", None
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": tokens, "temperature": 0} | more
    for piece in server.chat.completions.create(model=model, messages=messages, **options):
        usage = piece.usage or usage
        if piece.choices and piece.choices[0].delta.content:
            first = first or time.monotonic()
            text += piece.choices[0].delta.content
    seconds = time.monotonic() - first
    written = usage.completion_tokens if usage else tokens
    return text, first - began, (written - 1) / seconds, usage


def chat_and_streams(server, model):
    print("chat and streams")
    whole = server.chat.completions.create(model=model, messages=[user(QUESTIONS[0])], temperature=0, max_tokens=48)
    text, _, _, usage = timed(server, model, [user(QUESTIONS[0])], 48)
    check("a stream says what a whole answer says", text == whole.choices[0].message.content, repr(text[:50]))
    check("and counts the same", usage.completion_tokens == whole.usage.completion_tokens, usage.completion_tokens)
    drawn = [
        server.chat.completions.create(model=model, messages=[user(QUESTIONS[1])], temperature=0.8, top_p=0.95, seed=seed, max_tokens=24)
        for seed in (1, 1, 2)
    ]
    drawn = [each.choices[0].message.content for each in drawn]
    check("a seed repeats an answer, and another seed does not", drawn[0] == drawn[1] != drawn[2])
    refused = None
    try:
        server.chat.completions.create(model=model, messages=[user("x")], n=2)
    except openai.BadRequestError as error:
        refused = error.body
    check("what is not there is refused by name", refused and refused["param"] == "n", refused and refused["message"])


def tools(server, model):
    print("tools")
    # A model of this size calls nothing unless it is shown how: three turns of it.
    messages = [{"role": "system", "content": "For each file that is named, call look."}]
    for path in ("a.py", "b.py", "c.py"):
        call = {"id": path, "type": "function", "function": {"name": "look", "arguments": json.dumps({"path": path})}}
        messages += [user(f"Look at {path}"), {"role": "assistant", "content": "", "tool_calls": [call]}]
    messages.append(user("Look at d.py"))
    answer = server.chat.completions.create(model=model, messages=messages, tools=[TOOL], temperature=0, max_tokens=64).choices[0]
    calls = answer.message.tool_calls or []
    check("the model's call is told apart", answer.finish_reason == "tool_calls" and len(calls) == 1, answer.message)
    arguments = json.loads(calls[0].function.arguments) if calls else None
    check("its arguments are JSON of an object", isinstance(arguments, dict), arguments)
    streamed = []
    for piece in server.chat.completions.create(model=model, messages=messages, tools=[TOOL], temperature=0, max_tokens=64, stream=True):
        streamed += piece.choices[0].delta.tool_calls or []
    same = [each.function.arguments for each in streamed] == [each.function.arguments for each in calls]
    check("streamed too", same and bool(streamed))


def parallel(server, model, clients=16):
    print(f"{clients} clients at once")
    prompts = [[user(f"{QUESTIONS[at % len(QUESTIONS)]} ({at})")] for at in range(clients)]

    def ask(messages):
        return server.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=48)

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        together = list(pool.map(ask, prompts))
    seconds = time.monotonic() - began
    began = time.monotonic()
    alone = [ask(messages) for messages in prompts]
    in_turn = time.monotonic() - began
    same = [each.choices[0].message.content for each in together] == [each.choices[0].message.content for each in alone]
    check("each is answered as it is alone", same)
    written = sum(each.usage.completion_tokens for each in together)
    print(f"  {written} tokens in {seconds:.1f} s: {written / seconds:.1f} a second together; one after the other {written / in_turn:.1f}")


def prefix(server, model):
    print("a shared beginning")
    system = {"role": "system", "content": f"{RULES} ({time.time()})"}
    first = [timed(server, model, [{**system, "content": f"{at} {system['content']}"}, user("Begin.")], 4) for at in range(3)]
    _, before, _, _ = timed(server, model, [system, user("Begin.")], 4)
    again = [timed(server, model, [system, user(question)], 4) for question in QUESTIONS]
    anew = statistics.median([each[1] for each in first] + [before])
    reused = statistics.median(each[1] for each in again)
    usage = again[0][3]
    cached = usage.prompt_tokens_details.cached_tokens
    check("it is found in the cache", cached > 0.9 * usage.prompt_tokens, f"{cached} of {usage.prompt_tokens} tokens")
    check("and saves time", reused < anew / 3, f"first token after {anew:.2f} s anew, {reused:.2f} s with it: {anew / reused:.0f} times sooner")


def speed(server, beside, model):
    print("tokens a second, one client")
    ours, theirs = [], []
    for _ in range(5):
        ours.append(timed(server, model, [user(QUESTIONS[1])], 128)[2])
        if beside:
            theirs.append(timed(beside, model, [user(QUESTIONS[1])], 128, stream_options=openai.NOT_GIVEN)[2])
    line = f"  this server {statistics.median(ours):.1f}"
    if theirs:
        line += f"; beside it {statistics.median(theirs):.1f}; ratio {statistics.median(ours) / statistics.median(theirs):.2f} (medians of 5, in turn)"
    print(line)


def transformers_says_the_same(server, model, folder):
    print("transformers, most likely tokens")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for question in QUESTIONS:
        ids = tokenizer.apply_chat_template([user(question)], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            expected = weights.generate(**ids, max_new_tokens=64, do_sample=False)[0, ids["input_ids"].shape[1] :]
        expected_text = tokenizer.decode(expected, skip_special_tokens=True)
        answer = server.chat.completions.create(model=model, messages=[user(question)], temperature=0, max_tokens=64)
        same = answer.choices[0].message.content == expected_text and answer.usage.completion_tokens == len(expected)
        check(f"{len(expected)} tokens after {question!r}", same)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--beside")
    parser.add_argument("--transformers")
    parser.add_argument("--only", choices=["tools", "speed"], help="one part alone")
    parser.add_argument("--no-tools", action="store_true", help="the model's template knows no tools")
    arguments = parser.parse_args()
    server = client(arguments.url)
    beside = arguments.beside and client(arguments.beside)
    if arguments.only:
        tools(server, arguments.model) if arguments.only == "tools" else speed(server, beside, arguments.model)
        sys.exit(bool(failures))
    chat_and_streams(server, arguments.model)
    if not arguments.no_tools:
        tools(server, arguments.model)
    parallel(server, arguments.model)
    prefix(server, arguments.model)
    if arguments.transformers:
        transformers_says_the_same(server, arguments.model, arguments.transformers)
    speed(server, beside, arguments.model)
    print("failed: " + ", ".join(failures) if failures else "all as it should be")
    sys.exit(bool(failures))


main()

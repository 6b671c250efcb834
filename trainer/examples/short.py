"""Short conversations out of long ones: from a dataset of trajectories (docs/dataset.md) each assistant turn with the message before it, so that a training
on two processors takes minutes. What is said in them is untouched; a short task stands before it, and those of more characters than asked for are left out.

    python short.py DATASET OUT [lines] [characters]
"""

import json
import pathlib
import sys

# A user's and not the system's: Qwen3's template, and those made after it, drop the thinking of turns that follow no words of a user's.
TASK = "You repair code in /testbed. Think first, then call exactly one tool."


def conversations(path, characters):
    """Every assistant turn with what it answers, trajectory by trajectory; the first turns are passed over, since they are the same everywhere."""
    for line in path.read_text().splitlines():
        whole = json.loads(line)
        messages = whole["messages"]
        for at in range(4, len(messages)):
            if not messages[at]["train"] or messages[at - 1]["role"] != "user":
                continue
            pair = [{"role": "user", "content": TASK, "train": False}, messages[at - 1], messages[at]]
            if sum(len(message["content"]) for message in pair) <= characters:
                yield {"instance_id": f"{whole['instance_id']}-{at}", "messages": pair}


def main():
    dataset, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    lines, characters = map(int, (sys.argv[3:] + ["36", "1400"][len(sys.argv) - 3:])[:2])
    out.mkdir(parents=True, exist_ok=True)
    for name, most in (("train.jsonl", lines), ("eval.jsonl", lines // 4)):
        found = list(conversations(dataset / name, characters))
        # Spread over all trajectories instead of the first ones.
        taken = [found[at * len(found) // most] for at in range(most)] if len(found) > most else found
        (out / name).write_text("".join(json.dumps(each) + "\n" for each in taken))
        print(f"{out / name}: {len(taken)} of {len(found)} conversations of at most {characters} characters")


if __name__ == "__main__":
    main()

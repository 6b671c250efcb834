"""What axolotl trains on in files of lines, by its own code: the strategy `chat_template`, with the configuration that docs/dataset.md shows.

    python axolotl.py --student DIR FILE…

Prints, for each line, a JSON object: its `ids`, and whether each of them carries `loss`. Needs `datasets`, `transformers`, `torch`, `jinja2`, `addict`,
`colorama`, `accelerate` and `axolotl`; of the last the code alone (`pip install --no-deps axolotl`), as what it trains with is not used. Lines in the format Raw are
changed as the docs say.
"""

import json
import pathlib
import sys

import yaml

# This file's folder would come first, and this file has the package's name.
sys.path.pop(0)

import datasets
from axolotl.prompt_strategies.chat_template import load
from axolotl.prompters import IGNORE_TOKEN_ID
from axolotl.utils.dict import DictDefault
from transformers import PreTrainedTokenizerFast

DOCS = pathlib.Path(__file__).resolve().parents[4] / "docs/dataset.md"


def documented():
    """The block of the docs that configures axolotl."""
    for block in DOCS.read_text(encoding="utf-8").split("```yaml\n")[1:]:
        configuration = yaml.safe_load(block.split("```")[0])
        if "datasets" in configuration:
            return configuration["datasets"][0]
    raise SystemExit(f"{DOCS} has no configuration of axolotl's any more")


def main():
    flag, student, *files = sys.argv[1:]
    assert flag == "--student", __doc__
    tokenizer = PreTrainedTokenizerFast.from_pretrained(student)
    configuration = documented()
    assert configuration["type"] == "chat_template"
    strategy = load(tokenizer, DictDefault({"train_on_inputs": False, "sequence_len": 1 << 20}), {**configuration, "field_tools": "tools"})
    for file in files:
        for line in datasets.load_dataset("json", data_files=file, split="train"):
            if line.get("tool_json"):
                line["tools"] = json.loads(line.pop("tool_json"))
            tokens = strategy.tokenize_prompt(line)
            labels = tokens["labels"]
            assert all(label in (IGNORE_TOKEN_ID, token) for label, token in zip(labels, tokens["input_ids"], strict=True))
            print(json.dumps({"ids": tokens["input_ids"], "loss": [label != IGNORE_TOKEN_ID for label in labels]}))


main()

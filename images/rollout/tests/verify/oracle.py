"""Line recall as its rule is written down, in the plainest Python: what the program's numbers are compared with.

Reads pairs (a line of JSON each, with "p1" and "p2") from standard input, and prints "matched total" for each. With an argument it prints instead how
many seconds of processor time all the pairs took together, reading not counted: "list" looks lines up in a list, as the published code does, "counter"
in a Counter, and "both" takes the strict measure as well (but for the tables of files that are left out).
"""

import json
import re
import sys
import time
from collections import Counter


def changed_lines(patch):
    lines = []
    for line in patch.splitlines():
        if not line.startswith(("+", "-")) or line.startswith(("+++", "---")):
            continue
        if line[1:].strip() == "":
            continue
        lines.append(line)
    return lines


def by_list(p1, p2):
    wanted, found = changed_lines(p1), changed_lines(p2)
    matched = 0
    for line in wanted:
        if line in found:
            found.remove(line)
            matched += 1
    return matched, len(wanted)


def by_counter(p1, p2):
    wanted, found = Counter(changed_lines(p1)), Counter(changed_lines(p2))
    return (wanted & found).total(), wanted.total()


RANGES = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


def counted_lines(patch):
    lines, before, file, old, new = [], None, None, 0, 0
    for line in patch.split("\n"):
        if old > 0 or new > 0:
            sign = line[:1]
            if sign in ("+", "-"):
                text = " ".join(line[1:].split())
                if text:
                    lines.append((file, sign, text))
            old -= sign != "+"
            new -= sign != "-"
        elif line.startswith("--- "):
            before = line[4:]
        elif line.startswith("+++ "):
            file = (line[4:] if before == "/dev/null" else before)[2:]
        elif hunk := RANGES.match(line):
            old, new = (1 if length is None else int(length) for length in hunk.groups())
    return lines


def by_both(p1, p2):
    wanted, found = Counter(counted_lines(p1)), Counter(counted_lines(p2))
    return by_list(p1, p2), (wanted & found).total(), wanted.total(), found.total()


def main():
    # Bytes that are no UTF-8 become a character each, and never another one.
    pairs = [json.loads(line.decode("utf-8", "surrogateescape")) for line in sys.stdin.buffer]
    if len(sys.argv) > 1:
        score = {"list": by_list, "counter": by_counter, "both": by_both}[sys.argv[1]]
        begun = time.process_time()
        for pair in pairs:
            score(pair["p1"], pair["p2"])
        print(time.process_time() - begun)
        return
    for pair in pairs:
        matched, total = by_list(pair["p1"], pair["p2"])
        print(matched, total)


if __name__ == "__main__":
    main()

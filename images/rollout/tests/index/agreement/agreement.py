#!/usr/bin/env python3
"""Compares the function index with what a language's own parser finds: Python's ast, Go's go/ast.

    agreement.py {python,go} CLONE [--program target/debug/sera-rollout] [--show 20]

Every tracked file of the language is looked at, tests included, generated ones not. A function agrees if file, qualified name, first and last line are the same. What
does not is listed. Files that the language's own parser refuses are left out and named; those that the index leaves out are not: their functions
count as missing. Ends with 1 below 98 %.
"""

import argparse
import ast
import json
import subprocess
import sys
import warnings
from pathlib import Path

REQUIRED = 0.98


def tracked(clone, ending):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=clone, check=True, capture_output=True).stdout.decode()
    return [path for path in listed.split("\0") if path.endswith(ending) and (clone / path).is_file()]


def is_generated(path):
    """By the marks that the index leaves such files out by."""
    lines = path.read_text(errors="replace").splitlines()
    first = any("DO NOT EDIT" in line or "@generated" in line for line in lines[:5])
    return first or any(line.startswith("// Code generated ") for line in lines[:40])


def python_functions(clone, paths):
    refused, found = [], set()
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse((clone / path).read_bytes())
        except (SyntaxError, ValueError):
            refused.append(path)
            continue
        stack = [(tree, "")]
        while stack:
            node, outer = stack.pop()
            for child in ast.iter_child_nodes(node):
                inner = outer
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    name = f"{outer}.{child.name}".lstrip(".")
                    inner = name
                    if not isinstance(child, ast.ClassDef):
                        found.add((path, name, child.lineno, child.end_lineno))
                stack.append((child, inner))
    return found, refused


def go_functions(clone, paths):
    oracle = Path(__file__).with_name("functions.go")
    listed = subprocess.run(
        ["go", "run", str(oracle), str(clone)], input="\n".join(paths), check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split("\t") for line in listed.splitlines()]
    refused = [path for path, first, *_ in rows if first == "-"]
    return {(path, name, int(first), int(last)) for path, first, last, name in rows if first != "-"}, refused


def indexed_functions(program, clone, paths):
    # Each file is spelt out, so that no rule about paths leaves it out.
    globs = [flag for path in paths for flag in ("--include", path.replace("[", "[[]"))]
    command = [program, "functions", "--repository", str(clone), "--log-level", "error", *globs]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    functions = [json.loads(line) for line in printed.splitlines()]
    return {(f["file"], f["name"], *f["lines"]) for f in functions if f["kind"] != "Closure"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", choices=["python", "go"])
    parser.add_argument("clone", type=Path)
    parser.add_argument("--program", default="target/debug/sera-rollout")
    parser.add_argument("--show", type=int, default=20, help="how many differences are listed")
    arguments = parser.parse_args()
    ending, oracle = {"python": (".py", python_functions), "go": (".go", go_functions)}[arguments.language]
    every = tracked(arguments.clone, ending)
    paths = [path for path in every if not is_generated(arguments.clone / path)]
    expected, refused = oracle(arguments.clone, paths)
    found = indexed_functions(arguments.program, arguments.clone, [path for path in paths if path not in set(refused)])
    agreed = expected & found
    share = len(agreed) / max(1, len(expected | found))
    print(f"{len(every)} files, {len(every) - len(paths)} of them generated and left out")
    print(f"{len(refused)} refused by the language's own parser: {' '.join(refused) or 'none'}")
    print(f"{len(expected)} functions by it, {len(found)} by the index, {len(agreed)} agree: {100 * share:.3f} %")
    differences = [("only the index", found - expected), ("not the index", expected - found)]
    for what, functions in differences:
        for path, name, first, last in sorted(functions)[: arguments.show]:
            print(f"  {what}: {path}:{first}-{last} {name}")
    sys.exit(0 if share >= REQUIRED else 1)


main()

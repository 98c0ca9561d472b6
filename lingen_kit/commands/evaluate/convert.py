"""`evaluate convert`: results of VBench's own scripts to ours, and ours to theirs."""

import argparse
import json
from pathlib import Path


def main(verb: str, arguments: list[str]) -> None:
    """Convert in the direction that the input asks for."""
    parser = argparse.ArgumentParser(
        prog=f"python -m lingen_kit {verb}",
        description="Turn result files of VBench or VBench-2.0 (*_eval_results.json, or a folder of them) into a"
        " scores.json with totals, or a scores.json of ours into a result file of VBench's form.",
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="result files, or a scores.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    options = parser.parse_args(arguments)

    from eval.official import read_official, to_official
    from eval.run import read_scores, write_scores
    from lingen_kit.page import write

    ours = len(options.results) == 1 and _is_ours(options.results[0])
    if ours:
        write(options.out, json.dumps(to_official(read_scores(options.results[0])), indent=1) + "\n")
        print(f"VBench's form  {options.out}")
        return
    content = read_official(options.results)
    write_scores(options.out, content)
    for name, value in {**content["figures"], **content["totals"]}.items():
        print(f"{name:28} {value:8.4f}")
    for name, reason in content["refused"].items():
        print(f"{name:28}        -  {reason}")
    print(f"scores  {options.out}")


def _is_ours(path: Path) -> bool:
    file = path / "scores.json" if path.is_dir() else path
    try:
        return "videos" in json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False

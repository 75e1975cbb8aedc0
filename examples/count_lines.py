"""Count the lines of code of the package and of the tests; docstrings, comments and blank lines are not counted.

python examples/count_lines.py
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines_of_code(source: str) -> int:
    """Return the number of lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> None:
    """Print a line for each room: lines of code, all lines, files."""
    for top in ("cvr_plugins", "tests"):
        code: Counter[str] = Counter()
        raw: Counter[str] = Counter()
        files: Counter[str] = Counter()
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).parts
            source = path.read_text(encoding="utf-8")
            for room in (parts[0] if len(parts) > 1 else ".", "all"):
                code[room] += lines_of_code(source)
                raw[room] += source.count("\n")
                files[room] += 1
        print(f"{top:<16}{'code':>8}{'lines':>8}{'files':>7}")
        for room in sorted(code, key=lambda each: (each == "all", each)):
            print(f"{room:<16}{code[room]:>8}{raw[room]:>8}{files[room]:>7}")
        print()


if __name__ == "__main__":
    main()

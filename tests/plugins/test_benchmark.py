"""The benchmark of the start-up runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_benchmark_prints_a_row_per_command_and_counts_what_it_imports(tmp_path):
    pytest.importorskip("hatchling", reason="it builds the plugins")
    script = ROOT / "examples" / "benchmarks" / "startup.py"
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- startup: here -->\nold\n<!-- end -->\n")
    command = [
        sys.executable,
        str(script),
        "--rounds",
        "1",
        "--plugins",
        "2",
        "--only",
        "keys",
        "show",
        "--into",
        str(page),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == f"before\n<!-- startup: here -->\n\n{done.stdout}\n<!-- end -->\n"
    head, _, *rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert head == "| command | none | 2 plugins | difference | imported |"
    found = [
        re.fullmatch(r"\| `cvr-plugins (.*)` \| [\d.]+ s \| [\d.]+ s \| [+-][\d.]+ s \| (\d+) \|", row) for row in rows
    ]
    assert [(row[1].split()[0], int(row[2])) for row in found] == [("keys", 0), ("show", 2)]

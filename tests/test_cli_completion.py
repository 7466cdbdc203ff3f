"""Completion in a shell: verbs and options, by the script that the command itself prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import separable

pytest.importorskip("typer")

SHELLS = ("bash", "zsh", "fish")
# As bash calls it when Tab is pressed behind the words.
PRESS_TAB = """
eval "$(separable --show-completion bash)"
COMP_WORDS=({words}) COMP_CWORD={last}
$(complete -p separable | sed 's/.*-F \\([^ ]*\\) .*/\\1/') separable
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which `separable` is a script on PATH, as pip makes one."""
    script = tmp_path / "separable"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m separable "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    sources = Path(separable.__file__).parents[1]
    # Typer asks the system which shell called it, unless this is set: then it takes the name of a shell.
    return {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{sources}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }


def _run(*words: str, environment: dict[str, str]) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("separable f", {"factor", "filter", "frontier"}),
        ("separable filter --ga", {"--gaussian"}),
        ("separable filter --unit ''", {"px", "m", "cm", "mm", "um", "nm"}),
        ("separable filter --box ''", set()),  # nothing of ours: bash then completes the names of files
    ],
)
def test_bash_completes(words: str, offered: set[str], environment: dict[str, str]) -> None:
    code = PRESS_TAB.format(words=words, last=len(words.split()) - 1)
    assert set(_run("bash", "-c", code, environment=environment).split()) == offered


@pytest.mark.skipif(os.name == "nt", reason="the shells of Unix")
@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell: str, environment: dict[str, str]) -> None:
    script = _run("separable", "--show-completion", shell, environment=environment)
    assert "_SEPARABLE_COMPLETE" in script
    assert "separable" in script


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="bash is not installed")
def test_installing_it_changes_the_home_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    told = _run("separable", "--install-completion", "bash", environment={**environment, "HOME": str(home)})
    assert "bash completion installed" in told
    assert "separable" in (home / ".bashrc").read_text(encoding="utf-8")

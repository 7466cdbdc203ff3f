"""What an exercise consists of, and what came of a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .answers import Answers, Finding


@dataclass(frozen=True)
class Judgement:
    """What is right in a learner's answers, and what is wrong with the rest.

    Attributes
    ----------
    number : int
        Of the exercise.
    findings : tuple of Finding
        One for each answer that the exercise asks for, in its order.
    """

    number: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether all answers are right."""
        return all(finding.right for finding in self.findings)

    def __repr__(self) -> str:
        lines = [
            f"{'right' if finding.right else 'not yet':8}{finding.name}"
            + (f": {finding.message}" if finding.message else "")
            for finding in self.findings
        ]
        return "\n".join([*lines, f"Exercise {self.number} is {'done' if self.passed else 'not done yet'}."])


@dataclass(frozen=True)
class Exercise:
    """One step of the course.

    Attributes
    ----------
    number : int
        Its place, from 1.
    slug : str
        Of its files.
    title : str
    statement : str
        What is asked, as Markdown.
    start : str
        The code that the learner completes.
    hint, solution : str
        A nudge, as Markdown; code that passes.
    answers : callable
        ``answers(given)`` asks `given` for each name, and tells what is wrong with it.
    needs : str, optional
        The extra that brings what it takes beside NumPy.
    """

    number: int
    slug: str
    title: str
    statement: str
    start: str
    hint: str
    solution: str
    answers: Callable[[Answers], None]
    needs: str | None = None

    def judge(self, names: Mapping[str, Any]) -> Judgement:
        """Return what is right and what is wrong in the learner's names."""
        given = Answers(names)
        self.answers(given)
        return Judgement(self.number, tuple(given.findings))

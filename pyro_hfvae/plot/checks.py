"""The results of ``pyro-hfvae check``, in the parts that the page shows."""

import re
from typing import NamedTuple

__all__ = ["CheckedPosterior", "read_checks"]

_FINDING = re.compile(r"(NOT FINE|fine) {2,}(.+?) {2,}(.+)")
_ADVICE = re.compile(r"- ([^:]+): (.+)")


class CheckedPosterior(NamedTuple):
    """The summary of the checks.

    Attributes:
        verdict: how many are fine.
        findings: of each check its subject, whether it is fine, and what was measured.
        advice: of each that is not fine its subject, and what to try.
        others: lines of another kind.
    """

    verdict: str
    findings: list[tuple[str, bool, str]]
    advice: list[tuple[str, str]]
    others: list[str]


def read_checks(summary: str) -> CheckedPosterior:
    """Takes the text of ``checks/summary.txt`` apart; a line that is not understood stands among the others."""
    verdict, _, rest = summary.partition("\n")
    found = CheckedPosterior(verdict, [], [], [])
    for line in rest.splitlines():
        if match := _FINDING.fullmatch(line):
            found.findings.append((match[2], match[1] == "fine", match[3]))
        elif match := _ADVICE.fullmatch(line):
            found.advice.append((match[1], match[2]))
        elif line not in ("", "what to try:"):
            found.others.append(line)
    return found

"""The verdict: rules that look at the evidence. The first that holds names the fault; the others are told after it.

Thresholds were set on trainings that the tests do not use: docs/diagnose.md says how well they do on others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..storage import finite
from .observations import Evidence
from .rules.order import RULES
from .rules.rule import Finding

HEALTHY = "healthy"


@dataclass(frozen=True)
class Verdict:
    """The first finding is the verdict; ``fault`` is "healthy" where no rule holds."""

    findings: tuple[Finding, ...]
    evidence: Evidence

    @property
    def fault(self) -> str:
        return self.findings[0].fault if self.findings else HEALTHY

    def to_json(self) -> dict[str, object]:
        """The stable JSON form; what could not be measured is null."""
        return finite(
            {"fault": self.fault, "findings": [asdict(f) for f in self.findings], "evidence": asdict(self.evidence)}
        )


def judge(evidence: Evidence) -> Verdict:
    """Find the rules that hold, in their order, each fault once."""
    findings: dict[str, Finding] = {}
    for rule in RULES:
        if rule.fault not in findings and (found := rule.finding(evidence)) is not None:
            findings[rule.fault] = found
    return Verdict(tuple(findings.values()), evidence)

"""JUnit XML of checks: a test case for each checkpoint.

There is no standard, only what its readers agree on: ``testsuites``, ``testsuite``, ``testcase``; what was found is a
``failure``, what kept us from looking an ``error``.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from ckpt_tools.cli.check import Check, failing
from ckpt_tools.console.escapes import safe
from ckpt_tools.findings import Finding


def junit_xml(checks: Sequence[Check], command: str) -> str:
    """The document as text, with its XML declaration."""
    counts = {
        "tests": str(len(checks)),
        "failures": str(sum(bool(failing(check)) and not check.failed for check in checks)),
        "errors": str(sum(check.failed for check in checks)),
        "time": _seconds(sum(check.seconds for check in checks)),
    }
    root = ElementTree.Element("testsuites", {"name": "ckpt", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"ckpt {command}", **counts})
    for check in checks:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            # XML has no place for control characters, not even as references.
            {"classname": f"ckpt.{command}", "name": safe(check.name), "time": _seconds(check.seconds)},
        )
        wrong = failing(check)
        if wrong:
            # One element each: most readers show only the first of several.
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            attributes = {"message": safe(wrong[0].message) + more, "type": wrong[0].id}
            told = ElementTree.SubElement(case, "error" if check.failed else "failure", attributes)
            told.text = "\n".join(map(_line, wrong))
        others = [finding for finding in check.findings if finding not in wrong]
        if others:
            ElementTree.SubElement(case, "system-out").text = "\n".join(map(_line, others))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _line(finding: Finding) -> str:
    place = [finding.path, None if finding.offset is None else f"at byte {finding.offset}", finding.key]
    line = ": ".join([finding.severity, *(part for part in place if part), finding.message])
    return safe(line) + (f"\n  next: {safe(finding.fix)}" if finding.fix else "")


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"

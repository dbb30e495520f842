"""Runs of pytest, as the authors of other packages have them."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def run(folder: Path, *arguments: str) -> dict[str, tuple[str, str]]:
    """Run pytest in that folder; for each test its outcome, and all that was told about it."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*command, *arguments], cwd=folder, check=False, capture_output=True)  # noqa: S603  our own Python
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  written by pytest
        told = next((each for each in case if each.tag in {"failure", "error", "skipped"}), None)
        outcome, text = ("passed", "") if told is None else (told.tag, f"{told.text}")
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = (outcome, text)
    return outcomes

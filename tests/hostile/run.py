"""One run: a gateway, honest and hostile clients, each in a process of its own.

An event is late if it needs more than a second beyond what the machine took from it: what the
control client was late at the same time, and how long the gateway waited for a processor.
"""

import contextlib
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from operating import Operator

from d_back_core.secret import hash_password
from hostile.attacks import GROUPS
from hostile.honest import LATE
from hostile.town import PROTECTED

CONNECTIONS = 800
DESCRIPTORS = 1000
START, END = 60.0, 30.0
"""Seconds within which all have started, and a gateway has stopped."""
SAMPLE = 0.2
REST = 90.0
"""Seconds after the last attack in which the gateway must have let go of everything."""
GROWTH = 1.1, 16 * 2**20
"""Memory is flat if its median in the last third of the minutes is at most so many times that of
the second third, and so many bytes more."""
CONFIG = """
[gateway]
host = "127.0.0.1"
port = 0
http = ["town"]
origins = ["https://honest.example"]
{tls}
[chain]
order = ["town"]
[limits]
connections = {connections}
trusted_proxies = ["127.0.0.0/8"]
[servers.{protected}]
password = "{password}"
"""
TESTS = str(Path(__file__).parents[1])
TOWN = "from hostile.town import Town as Provider\n"


@dataclass
class Minute:
    """What a minute showed; memory in MiB, delays in seconds."""

    number: float
    connected: int = 0
    events: int = 0
    late: int = 0
    p99: list[float] = field(default_factory=list)
    worst: float = 0.0
    control: float = 0.0
    newcomers: list[float | None] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    descriptors: int = 0
    cpu: float = 0.0
    waited: float = 0.0
    log_lines: int = 0

    HEADINGS = (
        "minute honest events late    p99  worst control newcomers slowest   RSS  max descriptors"
        "  CPU waited log"
    )

    def __str__(self) -> str:
        joined = [each for each in self.newcomers if each is not None]
        return (
            f"{self.number:6.1f} {self.connected:6} {self.events:6} {self.late:4}"
            f" {max(self.p99, default=0):6.3f} {self.worst:6.3f} {self.control:7.3f}"
            f" {len(joined):4}/{len(self.newcomers):<4} {max(joined, default=0):7.3f}"
            f" {statistics.median(self.memory) / 2**20:5.0f} {max(self.memory) / 2**20:4.0f}"
            f" {self.descriptors:11} {self.cpu:3.0f}% {self.waited:5.0f}% {self.log_lines:3}"
        )


class Process:
    """A process of this run, whose output is in a file."""

    def __init__(self, folder: Path, name: str, *arguments: str, **options: Any) -> None:  # noqa: ANN401  of Popen
        self.output, self.errors = folder / f"{name}.out", folder / f"{name}.err"
        command = options.pop("command", [sys.executable, "-m", *arguments])
        environ = {"PYTHONPATH": TESTS} | dict(options.pop("env", os.environ))
        with self.output.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(  # noqa: S603  it is ours
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environ, **options
            )

    def until(self, pattern: str, file: Path) -> str:
        """The first group of the first match in its output."""
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(pattern, file.read_text(), re.MULTILINE):
                return found[1]
            time.sleep(0.05)
        raise RuntimeError(f"{self.process.args!r}: {self.errors.read_text()}")


class Run:
    """``broken`` is why the promise is broken; complete when `minutes` has ended."""

    def __init__(self, folder: Path, clients: int, *, tls: bool, uvloop: bool = True) -> None:
        self.broken: list[str] = []
        self._folder = folder
        self._clients = clients
        self._tls = tls
        self._uvloop = uvloop
        self._minutes: list[Minute] = []
        self._processes: list[Process] = []
        self._waits: list[tuple[float, float]] = []
        """When, and for how long in all the gateway had waited for a processor."""
        self._late_reports: list[tuple[float, float, float]] = []
        self._read = 0
        self._end = ""

    def minutes(self, count: float) -> Iterator[Minute]:
        """Run, and yield what each minute showed."""
        try:
            gateway, url = self._start_gateway()
            honest = self._start_honest(url)
            descriptors = self._descriptors(gateway)
            port, authority = url.rpartition(":")[2], str(self._authority or "")
            attackers = [
                self._start(name, "hostile.attacks", name, port, *filter(None, [authority]))
                for name in GROUPS
            ]
            end = time.monotonic() + count * 60
            while (left := end - time.monotonic()) > 0 and gateway.process.poll() is None:
                minute = Minute(len(self._minutes) + min(1, left / 60))
                self._watch(minute, gateway, honest, time.monotonic() + min(60, left))
                self._minutes.append(minute)
                yield minute
            for each in attackers:
                if each.process.poll() is not None:
                    self.broken.append(f"an attacker has failed: {each.errors.read_text()[-500:]}")
                each.process.kill()
            if gateway.process.poll() is None:
                self._stop(gateway, honest, descriptors)
            else:
                self.broken.append(f"the gateway has ended: {gateway.errors.read_text()[-500:]}")
            self._judge(gateway)
        finally:
            for each in self._processes:
                each.process.kill()
                each.process.communicate()

    def summary(self) -> str:
        """A line for each figure."""
        each = self._minutes
        memory = [statistics.median(minute.memory) / 2**20 for minute in each]
        highest = max(max(minute.memory) for minute in each) / 2**20
        newcomers = [seconds for minute in each for seconds in minute.newcomers]
        p99s = sorted(p99 for minute in each for p99 in minute.p99)
        events, late = sum(m.events for m in each), sum(m.late for m in each)
        worst, control = max(m.worst for m in each), max(m.control for m in each)
        cpu, waited = statistics.mean(m.cpu for m in each), statistics.mean(m.waited for m in each)
        return f"""
honest clients: {self._clients}, at the end {each[-1].connected}
events: {events}, later than {LATE:g} s: {late}, of these by the gateway: {len(self._own_late())}
delay, p99 of a second: {p99s[len(p99s) // 2]:.3f} s (median), {p99s[-1]:.3f} s (worst)
delay, worst: {worst:.3f} s, of the control {control:.3f} s
newcomers: {len(newcomers)}, refused {newcomers.count(None)}
memory in MiB: {memory[0]:.0f} at first, {memory[-1]:.0f} at the end, {highest:.0f} at most,\
 {_slope(memory):+.2f} per minute
CPU: {cpu:.0f} %, waited for one {waited:.0f} % of the time
{self._end}"""

    def _start(self, name: str, *arguments: str, **options: Any) -> Process:  # noqa: ANN401  of Popen
        process = Process(self._folder, name, *arguments, **options)
        self._processes.append(process)
        return process

    def _start_gateway(self) -> tuple[Process, str]:
        operator = Operator(self._folder)
        operator.install("town", TOWN)
        if not self._uvloop:
            operator.hide_uvloop()
        operator.configure(
            CONFIG.format(
                tls=self._certificate(),
                connections=CONNECTIONS,
                protected=PROTECTED,
                password=hash_password("right"),
            )
        )
        gateway = self._start(
            "gateway",
            command=operator.command((), limits=f"-n {DESCRIPTORS}"),
            cwd=self._folder,
            env={**operator.environ, "PYTHONPATH": f"{operator.site}{os.pathsep}{TESTS}"},
        )
        return gateway, gateway.until(r"listening on (wss?://\S+)$", gateway.errors)

    def _certificate(self) -> str:
        self._authority: Path | None = None
        if not self._tls:
            return ""
        authority = trustme.CA()
        self._authority = self._folder / "ca.pem"
        authority.cert_pem.write_to_path(self._authority)
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(self._folder / "key.pem")
        for pem in issued.cert_chain_pems:
            pem.write_to_path(self._folder / "cert.pem", append=True)
        return '[gateway.tls]\ncert = "cert.pem"\nkey = "key.pem"'

    def _start_honest(self, url: str) -> Process:
        control = self._start("control", "hostile.honest", "control")
        port = control.until(r"^(\d+)$", control.output)
        environ = dict(os.environ)
        if self._authority is not None:
            environ["SSL_CERT_FILE"] = str(self._authority)
        honest = self._start(
            "honest", "hostile.honest", url, str(self._clients), port, env=environ
        )
        honest.until(r'("connected")', honest.output)
        return honest

    def _watch(self, minute: Minute, gateway: Process, honest: Process, end: float) -> None:
        """Fill in what happens until the end."""
        log_before, cpu_before = _lines(gateway.errors), _cpu(gateway.process.pid)
        began, waited_before = time.monotonic(), self._waited(gateway)
        while (now := time.monotonic()) < end and gateway.process.poll() is None:
            self._waits.append((now, self._waited(gateway)))
            minute.memory.append(_memory(gateway.process.pid))
            minute.descriptors = max(minute.descriptors, self._descriptors(gateway))
            self._read_reports(minute, honest)
            time.sleep(SAMPLE)
        if gateway.process.poll() is not None:
            return
        took = time.monotonic() - began
        minute.cpu = (_cpu(gateway.process.pid) - cpu_before) / took * 100
        minute.waited = (self._waited(gateway) - waited_before) / took * 100
        minute.log_lines = _lines(gateway.errors) - log_before

    def _read_reports(self, minute: Minute, honest: Process) -> None:
        complete = honest.output.read_bytes()[self._read :].rpartition(b"\n")[0]
        self._read += len(complete) + 1 if complete else 0
        for line in complete.splitlines():
            report = json.loads(line)
            minute.connected = report["connected"]
            minute.events += report["events"]
            minute.late += len(report["late"])
            minute.p99.append(report["p99"])
            minute.worst = max(minute.worst, report["worst"])
            minute.control = max(minute.control, report["control"])
            minute.newcomers += report["newcomers"]
            self._late_reports += [tuple(each) for each in report["late"]]
            self.broken += report["problems"][:5]

    def _own_late(self) -> list[float]:
        """The delays that are the gateway's own, of those that are too long."""
        own = []
        for sent, received, control in self._late_reports:
            waits = [waited for at, waited in self._waits if sent - 1 < at < received + 1]
            taken = waits[-1] - waits[0] if waits else 0.0
            if (delay := received - sent - control - taken) > LATE:
                own.append(delay)
        return own

    def _stop(self, gateway: Process, honest: Process, descriptors: int) -> None:
        """Wait until only the honest clients are left, and end these and the gateway."""
        began = time.monotonic()
        while self._descriptors(gateway) > descriptors and time.monotonic() < began + REST:
            time.sleep(SAMPLE)
        left = self._descriptors(gateway) - descriptors
        self._end = f"descriptors left {time.monotonic() - began:.0f} s after the end: {left}"
        if left > 0:
            self.broken.append(self._end)
        last = Minute(0)
        self._read_reports(last, honest)
        if last.connected not in {0, self._clients}:
            self.broken.append(f"{last.connected} honest clients are left")
        with contextlib.suppress(BrokenPipeError):
            honest.process.communicate(b"\n", timeout=END)
        gateway.process.send_signal(signal.SIGTERM)
        if status := gateway.process.wait(END):
            self.broken.append(f"the gateway has ended with {status}")

    def _judge(self, gateway: Process) -> None:
        if late := self._own_late():
            self.broken.append(f"{len(late)} events are late, the latest by {max(late):.3f} s")
        thirds = len(self._minutes) // 3
        if thirds:
            medians = [statistics.median(each.memory) for each in self._minutes]
            before = statistics.median(medians[thirds : 2 * thirds])
            after = statistics.median(medians[2 * thirds :])
            if after > before * GROWTH[0] + GROWTH[1]:
                self.broken.append(f"memory has grown from {before:,.0f} to {after:,.0f} bytes")
        log = gateway.errors.read_text()
        for found in re.findall(r".*(?:ERROR|Traceback).*", log)[:5]:
            self.broken.append(f"log: {found}")

    def _waited(self, gateway: Process) -> float:
        """Seconds for which the event loop's thread was ready and had no processor."""
        text = Path(f"/proc/{gateway.process.pid}/schedstat").read_text()
        return int(text.split()[1]) / 1e9

    def _descriptors(self, gateway: Process) -> int:
        return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


def _slope(values: list[float]) -> float:
    if len(values) < 3:
        return 0.0
    return statistics.linear_regression(range(len(values)), values).slope

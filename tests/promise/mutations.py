"""One-line faults in the core, and a runner that says which test finds each of them.

From the root, with the tests that are to find them (by default those of the promise)::

    PYTHONPATH=tests python -m promise.mutations tests/promise tests/state

Each fault is put into a copy of the tree. One whose line is not there any more is named: mend its
entry here.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
LIMIT = 600
"""Seconds for the tests of one fault."""


@dataclass(frozen=True)
class Mutation:
    rule: str
    file: str
    """Below ``d_back_core``."""
    old: str
    new: str


MUTATIONS = (
    Mutation(
        "R2",
        "chain/layers.py",
        'if link.mode == "fallback" and answered:',
        'if link.mode == "fallback" and False:',
    ),
    Mutation(
        "R2",
        "state/resolver.py",
        'if source.link.mode == "fallback" and answered:',
        'if source.link.mode == "fallback" and covered:',
    ),
    Mutation(
        "R3",
        "chain/policy.py",
        "if server.enabled is not False and policies.get(server_id, NO_POLICY).enabled",
        "if server.enabled is not False",
    ),
    Mutation(
        "R4",
        "chain/layers.py",
        "if value is not UNSET and value is not None and link",
        "if value is not UNSET and link",
    ),
    Mutation("R4", "chain/layers.py", "fields.setdefault(field, value)", "fields[field] = value"),
    Mutation(
        "R7", "state/resolver.py", "return wanted, kept, waiting", "return wanted, {}, waiting"
    ),
    Mutation(
        "R7",
        "state/resolver.py",
        "wanted[name] = self.layers.in_use[name]\n",
        "pass\n",
    ),
    Mutation(
        "R9",
        "state/resolver.py",
        "return self._subject.clock.time() >= due",
        "return False",
    ),
    Mutation(
        "R10",
        "state/resolver.py",
        "if source.expired or (not supervisor.running and source.records is None):",
        "if not supervisor.running and source.records is None:",
    ),
    Mutation(
        "R10",
        "state/resolver.py",
        "self._wake(source.failing_since + supervisor.core.grace)",
        "pass",
    ),
    Mutation(
        "R11",
        "chain/world.py",
        "if self.visible(message.uid) is None:",
        "if False:",
    ),
    Mutation(
        "R13", "chain/world.py", "                self._hidden_at[uid] = self.position", "pass"
    ),
    Mutation(
        "R13",
        "chain/world.py",
        "self.hide_offline = hide_offline\n",
        "self.hide_offline = False\n",
    ),
    Mutation(
        "R13",
        "chain/world.py",
        "                self._change(Presence(uid=uid, status=user.status))",
        "                self._change(Removal(uid=uid))",
    ),
    Mutation(
        "R14",
        "state/layer_source.py",
        "                self._call.patches.append((key, patch))",
        "                pass",
    ),
    Mutation(
        "R15",
        "state/layer_source.py",
        "if self._call is not call:\n            return  #",
        "if False:\n            return  #",
    ),
    Mutation(
        "R15",
        "state/resolver.py",
        "        for key in self._late:",
        "        for key in ():",
    ),
    Mutation(
        "R16",
        "state/layer_source.py",
        "        if call.repeat:\n",
        "        if False:\n",
    ),
    Mutation(
        "R26",
        "state/subscribers.py",
        "        self.sessions.pop(session, None)",
        "        pass",
    ),
    Mutation(
        "R26",
        "state/subscribers.py",
        "        self._buffered.pop(session, None)\n",
        "",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "turn[descriptor].write(frames[taken:])",
        "turn[descriptor].write(frames)",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "subscription.position > batch.last",
        "subscription.position >= batch.first",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "        subscription.position = world.position\n",
        "",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "            subscription.position = self._waiting_position",
        "            subscription.position = self._position",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "        self._waiting_position, self._position = self._position, batch.last",
        "        self._waiting_position = self._position = batch.last",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "                    subscription.backlog.hold(delta)\n",
        "                    pass\n",
    ),
    Mutation(
        "R29",
        "state/backlog.py",
        "                if known:\n",
        "                if False:\n",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "for delta in (*rest, *world.pending):",
        "for delta in rest:",
    ),
    Mutation(
        "R29",
        "state/subscribers.py",
        "for delta in (*rest, *world.pending):",
        "for delta in world.pending:",
    ),
    Mutation(
        "R29",
        "state/backlog.py",
        "self._known.setdefault(change.uid, known)",
        "self._known[change.uid] = known",
    ),
    Mutation(
        "R29",
        "state/backlog.py",
        "changes.append(Presence.introducing(user))",
        "changes.append(Presence(uid=uid, status=user.status))",
    ),
    Mutation(
        "R30",
        "state/snapshot.py",
        "                self._frames.pop(uid, None)",
        "                pass",
    ),
    Mutation(
        "R30",
        "state/snapshot.py",
        "return (self._seq if self._frames else seq), self._tail",
        "return seq, self._tail",
    ),
    Mutation("R31", "chain/world.py", "secrets.token_hex(8)", '"0"'),
    Mutation(
        "R31",
        "chain/world.py",
        "if not self._complete_since <= seq <= self.seq:",
        "if not self._complete_since <= seq:",
    ),
    Mutation(
        "R31",
        "chain/world.py",
        "if not self._complete_since <= seq <= self.seq:",
        "if seq > self.seq:",
    ),
    Mutation(
        "R48",
        "chain/world.py",
        "if each.seq + is_unnumbered(each) > seq]",
        "if each.seq > seq + 1]",
    ),
    Mutation(
        "R48",
        "chain/world.py",
        "username=user.username if known.username != user.username else UNSET",
        "username=UNSET",
    ),
)


@click.command()
@click.argument("tests", nargs=-1)
@click.option("--only", default="", help="Only faults of this rule.")
def main(tests: tuple[str, ...], only: str) -> None:
    """Say which test finds each fault."""
    survived = 0
    for mutation in MUTATIONS:
        if only in ("", mutation.rule):
            found = _found(mutation, tests or ("tests/promise",))
            survived += found.startswith("NOT FOUND")
            line = f"{mutation.rule:4} {mutation.file}: {mutation.new.strip() or 'left out'}"
            click.echo(f"{line}\n     {found}")
    raise SystemExit(1 if survived else 0)


def stale() -> Iterator[Mutation]:
    """The faults whose line is not in the tree, or more than once."""
    for mutation in MUTATIONS:
        if (ROOT / "d_back_core" / mutation.file).read_text().count(mutation.old) != 1:
            yield mutation


def _found(mutation: Mutation, tests: tuple[str, ...]) -> str:
    """The first test that fails with this fault in the tree."""
    if mutation in stale():
        return "the line is not there any more"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("d_back_core", "plugins", "tests", "docs", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        file = copy / "d_back_core" / mutation.file
        file.write_text(file.read_text().replace(mutation.old, mutation.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        paths = os.pathsep.join([folder, str(copy / "plugins" / "d_back_testing")])
        try:
            ended = subprocess.run(  # noqa: S603 # pytest, with the paths that were given
                command,
                cwd=copy,
                env=os.environ | {"PYTHONPATH": paths},
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"found: the tests do not end within {LIMIT} s"
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", ended.stdout, re.MULTILINE)
    if failed:
        return f"found by {failed[1]}"
    return "NOT FOUND" if ended.returncode == 0 else f"pytest: {ended.stdout[-300:]}"


if __name__ == "__main__":
    main()

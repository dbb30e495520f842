"""One-line faults in the core, and a runner that says which test finds each of them.

From the root::

    PYTHONPATH=tests python -m promise.mutations --only R29

Each fault is put into a copy of the tree. First the tests of its file run (`TESTS`), then the
check of the promise, until one fails. A fault whose line is not there any more is named: mend its
entry here.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from msgspec import Struct

from tools.tree_copy import ROOT, TreeCopy

PER_TEST = 120.0
"""Seconds that one test may take."""
LIMIT = 600.0
"""Seconds for the tests of one fault."""
PROMISE = "tests/promise/test_promise.py"
DELIVERY = "tests/state/test_delivery_exhaustive.py"

_RESOLVER = (
    "tests/state/test_modes.py",
    "tests/state/test_failover.py",
    "tests/state/test_resolver.py",
    "tests/state/test_reload.py",
    "tests/state/test_promises_start.py",
)

TESTS: dict[str, tuple[str, ...]] = {
    "chain/layers.py": ("tests/chain/test_layers.py",),
    "chain/policy.py": ("tests/chain/test_policy.py",),
    "chain/server_list.py": (
        "tests/state/test_promises_start.py",
        "tests/state/test_server_list.py",
    ),
    "chain/world.py": ("tests/chain/test_world.py", "tests/state/test_backlog.py", DELIVERY),
    "embedding/callbacks.py": ("tests/embedding/test_callbacks.py",),
    "gateway/requests.py": ("tests/gateway/test_session.py", "tests/state/test_joins.py"),
    "models.py": ("tests/test_models.py", "tests/providers/test_validation.py"),
    "providers/calls.py": ("tests/providers/test_supervisor.py", "tests/providers/test_exits.py"),
    "providers/health.py": ("tests/state/test_failover.py", "tests/providers/test_supervisor.py"),
    "providers/recorder_queue.py": (
        "tests/state/test_promises_r23.py",
        "tests/state/test_recorders.py",
    ),
    "providers/supervisor.py": (
        "tests/providers/test_supervisor.py",
        "tests/providers/test_exits.py",
    ),
    "providers/validation.py": ("tests/providers/test_validation.py",),
    "state/access.py": ("tests/state/test_access.py",),
    "state/backlog.py": (
        "tests/state/test_backlog.py",
        "tests/state/test_promises_r11.py",
        "tests/state/test_slow_clients.py",
    ),
    "state/changes.py": ("tests/state/test_joins.py",),
    "state/join_checks.py": ("tests/state/test_joins.py", "tests/state/test_access.py"),
    "state/joins.py": (
        "tests/state/test_joins.py",
        "tests/state/test_access.py",
        "tests/state/test_server_list.py",
        "tests/state/test_resume.py",
        "tests/state/test_promises_start.py",
    ),
    "state/decision.py": _RESOLVER,
    "state/layer_source.py": (
        "tests/state/test_promises_start.py",
        "tests/state/test_resolver.py",
        "tests/state/test_modes.py",
        "tests/state/test_failover.py",
        "tests/state/test_recorders.py",
    ),
    "state/lookup.py": ("tests/state/test_joins.py", "tests/state/test_promises_start.py"),
    "state/live.py": ("tests/state/test_interleavings.py", "tests/state/test_reload.py"),
    "state/recorders.py": ("tests/state/test_recorders.py",),
    "state/reports.py": ("tests/state/test_promises_r11.py", "tests/state/test_failover.py"),
    "state/resolver.py": _RESOLVER,
    "state/server_state.py": (
        "tests/state/test_slow_clients.py",
        "tests/state/test_joins.py",
        "tests/state/test_resume.py",
        "tests/gateway/test_rate_limits.py",
        DELIVERY,
    ),
    "state/snapshot.py": ("tests/state/test_snapshot.py", DELIVERY),
    "state/subscribers.py": (
        "tests/state/test_subscribers.py",
        "tests/state/test_access.py",
        DELIVERY,
    ),
    "wire/frames.py": ("tests/wire/test_frames.py",),
    "wire/protocol.py": ("tests/wire/test_protocol.py",),
}
"""By file below ``d_back_core``, the fastest first."""


class Mutation(Struct, frozen=True):
    rule: str
    file: str
    """Below ``d_back_core``."""
    old: str
    new: str

    @property
    def path(self) -> Path:
        return Path("d_back_core", self.file)

    @property
    def fault(self) -> str:
        """Return the faulty line, for people."""
        before, after = (" ".join(text.split()) for text in (self.old, self.new))
        return f"`{before}` → `{after}`" if after not in {"", "pass"} else f"without `{before}`"


MUTATIONS = (
    Mutation(
        "R2",
        "chain/layers.py",
        'if link.mode == "fallback" and answered:',
        'if link.mode == "fallback" and False:',
    ),
    Mutation(
        "R2",
        "state/decision.py",
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
        "if value is UNSET or value is None or not link",
        "if value is UNSET or not link",
    ),
    Mutation("R4", "chain/layers.py", "if field not in fields:", "if True:"),
    Mutation("R7", "state/decision.py", "self.kept = self._lost(covered=covered)", "pass"),
    Mutation(
        "R7",
        "state/decision.py",
        "self.wanted[name] = in_use[name]\n",
        "pass\n",
    ),
    Mutation(
        "R9",
        "state/decision.py",
        "return self._subject.clock.time() >= due",
        "return False",
    ),
    Mutation(
        "R10",
        "state/decision.py",
        "if source.expired or (not supervisor.running and source.records is None):",
        "if not supervisor.running and source.records is None:",
    ),
    Mutation(
        "R10",
        "state/decision.py",
        "self._wake(supervisor.health.grace_ends(source.failing_since))",
        "pass",
    ),
    Mutation(
        "R11",
        "chain/world.py",
        "elif self.visible(chat.uid) is None:",
        "elif False:",
    ),
    Mutation(
        "R13",
        "chain/world.py",
        "                self._hidden_at[uid] = self.position",
        "                pass",
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
        "hidden = Presence(uid=uid, status=user.status)",
        "hidden = Removal(uid=uid)",
    ),
    Mutation(
        "R14",
        "state/layer_source.py",
        "                self._call.patches.append((key, patch))",
        "                pass",
    ),
    Mutation(
        "R15",
        "state/live.py",
        "        async with self._applying:\n            if self._stopped:",
        "        if True:\n            if self._stopped:",
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
        "elif known:  #",
        "elif False:  #",
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
        "changes.append(world.introduced(user))",
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
    Mutation(
        "R1",
        "embedding/callbacks.py",
        "return Overlay() if users == {} else users",
        "return users",
    ),
    Mutation(
        "R1",
        "state/layer_source.py",
        "return records, isinstance(answer, Overlay)",
        "return records or None, isinstance(answer, Overlay)",
    ),
    Mutation(
        "R3",
        "state/decision.py",
        "covers = self._subject.is_covered_by(source.link) and not self._subject.is_list",
        "covers = self._subject.is_covered_by(source.link)",
    ),
    Mutation(
        "R3", "chain/server_list.py", "preferred=[*flagged, *present],", "preferred=flagged,"
    ),
    Mutation(
        "R3",
        "state/server_state.py",
        "        if gone or back:\n",
        "        if False:\n",
    ),
    Mutation(
        "R5",
        "models.py",
        '\nGUARDS = {"passworded": True, "enabled": False}',
        '\nGUARDS = {"passworded": False, "enabled": True}',
    ),
    Mutation(
        "R5",
        "providers/validation.py",
        "records[plain(key)] = checked(record, path, validation_log)",
        "records[plain(key)] = record",
    ),
    Mutation(
        "R6",
        "chain/server_list.py",
        "protected=filter(self.is_protected, self._protectors),",
        "protected=(),",
    ),
    Mutation("R7", "state/decision.py", 'elif verdict == "wait" and held:', "elif False:"),
    Mutation(
        "R7",
        "state/resolver.py",
        "if reloaded and waiting and self._links != self.layers.links:",
        "if False:",
    ),
    Mutation(
        "R8",
        "state/lookup.py",
        "while found is None and self._is_list_incomplete():",
        "while False:",
    ),
    Mutation(
        "R8",
        "state/layer_source.py",
        "return not (late and self.state is State.SILENT)",
        "return True",
    ),
    Mutation(
        "R9",
        "state/decision.py",
        "due = source.ready_since + self._failback_after",
        "due = source.ready_since",
    ),
    Mutation(
        "R9",
        "state/decision.py",
        'if source.link.mode != "fallback" or name in in_use or self.stale or not has_failed:',
        'if source.link.mode != "fallback" or name in in_use or self.stale:',
    ),
    Mutation(
        "R10",
        "state/layer_source.py",
        "if answer is None and self.records is not None and self.failing_since is not None:",
        "if False:",
    ),
    Mutation(
        "R11",
        "state/reports.py",
        "if link is not None and link.fields is None and in_use:",
        "if link is not None and link.fields is None:",
    ),
    Mutation(
        "R12",
        "chain/server_list.py",
        "return any(link.admits(key) and layers.is_above(link.name, highest) for",
        "return any(False for",
    ),
    Mutation("R12", "chain/policy.py", "self._used.add(public_id)", "pass"),
    Mutation(
        "R12",
        "state/recorders.py",
        "return ServerSet(server_id=server_id, server=structs.replace(merged, id=public_id))",
        "return ServerSet(server_id=server_id, server=merged)",
    ),
    Mutation(
        "R13",
        "chain/world.py",
        "return self.visible(uid) is not None or joined_at < self._hidden_at.get(uid, 0)",
        "return self.visible(uid) is not None",
    ),
    Mutation(
        "R15", "state/resolver.py", "        if reloads != self._reloads:\n", "        if False:\n"
    ),
    Mutation(
        "R15",
        "state/decision.py",
        "            source.cancel()  # an answer",
        "            pass  # an answer",
    ),
    Mutation(
        "R16",
        "providers/supervisor.py",
        "                await self._poll(DEFAULT_REFRESH)",
        "                await asyncio.Event().wait()",
    ),
    Mutation(
        "R16",
        "providers/supervisor.py",
        "            self._listener.invalidate(self.name, failing_since)",
        "            pass",
    ),
    Mutation(
        "R17",
        "providers/supervisor.py",
        "            self._on_failure(error)\n            await self._stop()",
        "            self._on_failure(error)",
    ),
    Mutation(
        "R18",
        "state/layer_source.py",
        "                call.repeat = True\n                return\n",
        "                return\n",
    ),
    Mutation(
        "R22",
        "state/recorders.py",
        "            if is_complete(queue.above):\n                uids",
        "            if True:\n                uids",
    ),
    Mutation(
        "R23",
        "state/layer_source.py",
        "            await self._member.flush()",
        "            pass",
    ),
    Mutation(
        "R23",
        "providers/recorder_queue.py",
        'key = _key(change) or ("message", next(self._numbers))',
        'key = _key(change) or ("message",)',
    ),
    Mutation(
        "R24",
        "state/access.py",
        "            return verdict is True",
        "            return bool(verdict)",
    ),
    Mutation(
        "R24",
        "state/access.py",
        '"%s; the answer is no", error)\n                return False',
        '"%s; the answer is no", error)\n                continue',
    ),
    Mutation(
        "R25",
        "state/joins.py",
        'self._unsubscribe(server, "gone", protocol.UNKNOWN_SERVER)',
        "pass",
    ),
    Mutation(
        "R25", "state/joins.py", "if present.passworded and not former.passworded:", "if False:"
    ),
    Mutation(
        "R25",
        "state/joins.py",
        "if present is not None and present.passworded and policy.password != password:",
        "if False:",
    ),
    Mutation(
        "R25",
        "state/join_checks.py",
        "if now.passworded and (not same or revoked):",
        "if now.passworded and revoked:",
    ),
    Mutation(
        "R26",
        "state/joins.py",
        "            self._leave(session)\n            self._joined[session] = server",
        "            self._joined[session] = server",
    ),
    Mutation(
        "R26",
        "state/server_state.py",
        "joined_at=position, position=position)",
        "joined_at=position, position=0)",
    ),
    Mutation(
        "R27",
        "state/changes.py",
        "            self._handle = asyncio.get_running_loop().call_soon(self.flush)",
        "            self.flush()",
    ),
    Mutation(
        "R30",
        "state/snapshot.py",
        "        if user is None and not self.tracker.touched[uid]:",
        "        if user is None and False:",
    ),
    Mutation(
        "R33",
        "state/server_state.py",
        "        return allowed\n",
        "        return True\n",
    ),
    Mutation(
        "R46",
        "providers/calls.py",
        "        except (SystemExit, KeyboardInterrupt) as error:",
        "        except KeyboardInterrupt as error:",
    ),
    Mutation(
        "R48",
        "state/server_state.py",
        "self.world.seq if number == last else recovery.seq,",
        "self.world.seq,",
    ),
    Mutation(
        "R48",
        "state/server_state.py",
        "joined_at=0, position=self.world.position)",
        "joined_at=self.world.position, position=self.world.position)",
    ),
    Mutation(
        "R48",
        "state/backlog.py",
        "self.seq = first.seq if is_unnumbered(first) else first.seq - 1",
        "self.seq = first.seq",
    ),
    Mutation(
        "R48",
        "chain/world.py",
        "            delta = Delta(self.seq, self.position, complete)",
        "            pass",
    ),
    Mutation(
        "R49",
        "providers/recorder_queue.py",
        "            if self._queue.get(key) is change:",
        "            if key in self._queue:",
    ),
)


@click.command()
@click.option("--only", multiple=True, help="Only faults of this rule; may be repeated.")
def main(only: tuple[str, ...]) -> None:
    """Say which test finds each fault."""
    table = []
    with tempfile.TemporaryDirectory(prefix="d-back-mutations-") as folder:
        copy = TreeCopy(Path(folder), PER_TEST)
        for mutation in MUTATIONS:
            if not only or mutation.rule in only:
                table.append((mutation.rule, mutation.fault, _found(mutation, copy)))
                click.echo(" | ".join(table[-1]))
    click.echo("\n| rule | fault | found by |\n| --- | --- | --- |")
    for row in sorted(table, key=lambda row: int(row[0][1:])):
        click.echo(f"| {' | '.join(row)} |")
    raise SystemExit(not all(found.startswith("found") for _, _, found in table))


def stale() -> Iterator[Mutation]:
    """The faults whose line is not in the tree, or more than once."""
    for mutation in MUTATIONS:
        if (ROOT / mutation.path).read_text().count(mutation.old) != 1:
            yield mutation


def _found(mutation: Mutation, copy: TreeCopy) -> str:
    """The first test that fails with this fault in the tree."""
    if mutation in stale():
        return "the line is not there any more"
    content = (copy.folder / mutation.path).read_text().replace(mutation.old, mutation.new)
    with copy.changed(str(mutation.path), content.encode()):
        return str(copy.run([*TESTS[mutation.file], PROMISE], LIMIT))


if __name__ == "__main__":
    main()

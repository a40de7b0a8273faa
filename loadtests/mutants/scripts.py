"""Broken scripts: one bug in the atomic step of a write or an end."""

from __future__ import annotations

from loadtests.mutants.mutant import Mutant, edit, edits, piece

_COMPARISON = "if stored[1] ~= ARGV[11] or stored[2] ~= ARGV[12] then"
_READ = "local stored = call('HMGET', KEYS[1], 'n', 'v', 'c')\n"
_RECORD = "call('XADD', KEYS[3], '*', 'm', message)\n"
_SET_TTL = "\ncall('PEXPIRE', KEYS[1], ARGV[5])\n"
_PUBLISH = "call(ARGV[8], ARGV[9], message)\ncall(ARGV[8], ARGV[10], message)\n"
_ANNOUNCE_END = "call(ARGV[6], ARGV[7], message .. 'null}')\ncall(ARGV[6], ARGV[8], message .. 'null}')\n"
_TOLD = "'c', 'u')\n    return {1, n[1], n[2], n[3], n[4], ARGV[4]}"
# The message of an update before anything was compared.
_EARLY = (
    "local at = call('TIME')\n"
    """local early = '{"i":"' .. ARGV[2] .. '","k":"update","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'\n"""
    """  .. ARGV[11] .. ',"v":' .. string.format('%d', ARGV[12] + 1) .. ',"c":' .. (stored[3] or '1') .. ',"u":'\n"""
    """  .. at[1] .. string.sub('00000' .. at[2], -6) .. ',"s":' .. ARGV[4] .. '}'\n"""
)


def _outbox_dropped() -> None:
    edit("UPDATE", (piece("UPDATE", "call('XADD'", "call('HSET'"), ""))


def _receipt_missing() -> None:
    edit("UPDATE", (piece("UPDATE", "if not call('SET', KEYS[2]", "local message"), ""))


def _receipt_not_renewed() -> None:
    for name in ("CREATE", "UPDATE", "DELETE"):
        edit(name, ("call('PEXPIRE', KEYS[2], ARGV[6])", ""))


def version_not_compared() -> None:
    """What is stored is taken for what was expected."""
    edit("UPDATE", (_COMPARISON, f"if stored[1] then ARGV[11], ARGV[12] = stored[1], stored[2] end\n{_COMPARISON}"))


MUTANTS = (
    Mutant(
        "version_not_compared", "G1", "an update overwrites whatever version is stored", version_not_compared, "history"
    ),
    Mutant(
        "incarnation_ignored",
        "G1",
        "an update compares the version alone, so that a writer from before a deletion overwrites the next life",
        edits("UPDATE", (_COMPARISON, f"if stored[1] then ARGV[11] = stored[1] end\n{_COMPARISON}")),
        "a_stale_writer_is_refused",
    ),
    Mutant(
        "version_from_the_caller",
        "G1",
        "the version that is written is one more than the caller's, whatever is stored",
        edits("UPDATE", (_COMPARISON, "if stored[1] ~= ARGV[11] then")),
        "history",
    ),
    Mutant(
        "conflict_tells_callers_state",
        "G2",
        "a refusal that is to tell what is stored gives the refused state back",
        edits("UPDATE", ("return {1, unpack(", "local n = "), ("'c', 'u', 's'))}", _TOLD)),
        "history",
    ),
    Mutant(
        "state_not_written",
        "G2",
        "an update moves the version on and leaves the state as it was",
        edits("UPDATE", (", 's', ARGV[4])\ncall('PEXPIRE'", ")\ncall('PEXPIRE'")),
        "history",
    ),
    Mutant(
        "publish_before_write",
        "G4",
        "an update is announced before it is compared, also where it is then refused",
        edits("UPDATE", (_READ, f"{_READ}{_EARLY}{_PUBLISH.replace('message', 'early')}"), (_PUBLISH, "")),
        "a_refused_write_leaves_no_trace",
    ),
    Mutant(
        "publish_dropped",
        "G8",
        "an update is not announced to those who watch all sessions",
        edits("UPDATE", ("call(ARGV[8], ARGV[10], message)", "")),
        "history",
    ),
    Mutant("outbox_dropped", "G7", "an update is not recorded", _outbox_dropped, "history"),
    Mutant(
        "outbox_doubled",
        "G4",
        "an update is recorded twice",
        edits("UPDATE", (_RECORD, _RECORD * 2)),
        "a_write_leaves_one_of_each",
    ),
    Mutant(
        "outbox_before_the_check",
        "G4",
        "an update is recorded before it is compared, also where it is then refused",
        edits("UPDATE", (_READ, f"{_READ}{_EARLY}{_RECORD.replace('message', 'early')}"), (_RECORD, "")),
        "a_refused_write_leaves_no_trace",
    ),
    Mutant(
        "delete_not_recorded",
        "G7",
        "a deletion is not recorded",
        edits("DELETE", ("call('XADD', KEYS[3], '*', 'm', message .. stored[4] .. '}')\n", "")),
        "history",
    ),
    Mutant(
        "deletion_without_effect",
        "G2",
        "a deletion is announced, recorded and acknowledged, and the session stays",
        edits("DELETE", ("call('DEL', KEYS[1])\n", "")),
        "history",
    ),
    Mutant("receipt_missing", "G5", "an update leaves no receipt", _receipt_missing, "a_write_sent_again"),
    Mutant(
        "receipt_never_expires",
        "G5",
        "the receipt of an update stays for ever",
        edits("UPDATE", ("'NX', 'PX', ARGV[6])", "'NX')")),
        "receipts_run_out",
    ),
    Mutant(
        "receipt_not_renewed",
        "G11",
        "a write that is sent again writes nothing, so that its connection has nothing to wait for",
        _receipt_not_renewed,
        "replicated_is_only_claimed_where_it_is",
    ),
    Mutant(
        "ttl_not_set_on_update",
        "G9",
        "an update does not put a session's end off",
        edits("UPDATE", (_SET_TTL, "\n")),
        "writes_put_the_end_off",
    ),
    Mutant(
        "ttl_cut_short",
        "G9",
        "an update leaves a session a millionth of its time to live",
        edits("UPDATE", (_SET_TTL, _SET_TTL.replace("ARGV[5]", "math.floor(ARGV[5] / 1000000)"))),
        "history",
    ),
    Mutant(
        "ended_before_it_is_due",
        "G9",
        "the sweep ends a session at its first deadline, though it was put off since",
        edits("EXPIRE", ("if tonumber(left) > 0 then", "if false then")),
        "an_end_is_an_event",
    ),
    Mutant(
        "deadline_not_moved",
        "G9",
        "the sweep drops a session from the index of deadlines where it is not due yet",
        edits(
            "EXPIRE", ("  call('ZADD', KEYS[3], clock[1] * 1000 + math.floor(clock[2] / 1000) + left, ARGV[2])\n", "")
        ),
        "an_end_is_an_event",
    ),
    Mutant(
        "expiry_not_announced",
        "G9",
        "a session that runs out is ended, and nobody is told",
        edits("EXPIRE", (_ANNOUNCE_END, "")),
        "an_end_is_an_event",
    ),
    Mutant(
        "expiry_not_recorded",
        "G9",
        "a session that runs out is ended, and it is not recorded",
        edits("EXPIRE", ("call('XADD', KEYS[2], '*', 'm', message .. stored[4] .. '}')\n", "")),
        "an_end_is_an_event",
    ),
    Mutant(
        "given_up_not_marked",
        "G6",
        "a write that was settled as not applied leaves no mark, so that it is applied if it arrives later",
        edits("RESOLVE", ("call('SET', KEYS[1], '-', 'PX', ARGV[3])\n", "")),
        "a_write_given_up_never_happens",
    ),
    Mutant(
        "outbox_limit_ignored",
        "G10",
        "an update is taken however full the outbox is",
        edits("UPDATE", ("if depth >= tonumber(ARGV[7]) then", "if false then")),
        "a_full_outbox_refuses",
    ),
)

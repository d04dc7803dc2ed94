"""What each miss of another kernel is, as it was looked at by hand."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FAULTS"]

_NO_REPLY = "it says busy and idle, and gives no reply: who asked waits for ever"
_STREAM = "what a silent cell prints is published"
_PARENT = "it goes on when the process in JPY_PARENT_PID is killed"
_DROP = "what a slow subscriber has not read yet is dropped beyond 1,000 messages (SNDHWM)"
_FIRST = "only the first subscriber gets a welcome: XPUB_VERBOSE is not set"
_RUNNING = "a cell that computes is not stopped: the process goes on until it has ended"

_IPYKERNEL = {
    "kernelspec.version": "the kernelspec says 5.5, the kernel_info_reply 5.3, headers say 5.4",
    "messages.version": "the kernel_info_reply says 5.3, headers say 5.4",
    "execute.silent-output": _STREAM,
    "execute.silent-error": "the error of a silent cell is published",
    "json.surrogate": "the whole piece of output is lost, and an error of tornado is shown",
    "request.malformed": _NO_REPLY,
    "request.malformed-history": f"for another type {_NO_REPLY}; an unknown name is answered by ok",
    "request.wrong-types": _NO_REPLY,
    "request.malformed-control": _NO_REPLY,
    "request.malformed-busy": _NO_REPLY,
    "wire.verify-first": "on control a signature is remembered before it is verified: who has no "
    "key can have a message refused",
    "iopub.no-drop": _DROP,
    "welcome.every": _FIRST,
    "welcome.topic": "the welcome for the empty topic has no topic frame at all",
    "starting.quiet": "it publishes four warnings of the debugger that have no parent",
    "shutdown.busy": _RUNNING,
    "debugger.response": "the reply to modules has a body only, that to richInspectVariables a "
    "field sequence_seq in the place of request_seq",
    "debugger.copy": "before initialize it is never answered, and control is dead from there on",
    "debugger.unknown": "the reply is {}",
    "debugger.malformed": "it is not answered, or by {}",
    "subshells.unknown": "the error reply to a deletion has no ename and no traceback",
    "subshells.malformed": _NO_REPLY,
    "subshells.count": "all subshells count together",
    "subshells.interrupt": "an interrupt reaches the main shell only: the cell runs on",
    "subshells.delete-busy": "neither shell nor control answers until its cell has ended",
    "messages.content": "the error reply to a deletion, as above; execute_input repeats the code "
    "of a malformed request, which is no text",
}

_XEUS = {
    "execute.silent-output": _STREAM,
    "execute.aborts": "queued cells run side by side, and an error lands in another cell's reply",
    "execute.aborted-reply": "the same: nothing is aborted",
    "execute.stop-on-error-false": "the error of one cell is in the reply of the next one",
    "execute.silent-aborts-nothing": "the same",
    "execute.fifo": "the next cell is announced busy before the one before it is idle",
    "json.surrogate": "the cell fails with a TypeError",
    "json.date": "the cell fails with a RuntimeError: to_json not implemented",
    "comm.listed": "a comm to a target of Python code fails with an error in the log, and is not "
    "open; no comm_close tells that",
    "comm.messages": "the same",
    "stdin.eof": "the character itself is the answer",
    "stdin.stale": "an answer that came before the question is taken for it",
    "request.malformed": "some are answered as if the field were empty, others not at all",
    "request.malformed-history": "no reply, or one whose content is null",
    "request.wrong-types": "no reply; an execute_request gets no idle, either",
    "request.malformed-control": _NO_REPLY,
    "request.malformed-busy": "shell answers nothing any more",
    "wire.unsigned": "after one message with a wrong signature shell answers nothing any more",
    "wire.replay": "a message that is sent again is answered again",
    "wire.verify-first": "after a forged message shell answers nothing any more",
    "wire.odd-frames": "the process aborts",
    "wire.odd-json": "the process aborts",
    "interrupt.running": "the kernelspec's way is SIGINT, and that ends the process",
    "interrupt.message": "it is answered by ok, and the cell runs on",
    "sockets.handover": "ROUTER_HANDOVER is not set: the second connection hears nothing",
    "iopub.no-drop": _DROP,
    "starting.ipc": "it ends: RuntimeError: Invalid argument",
    "starting.no-key": "it expects a signature all the same",
    "starting.parent": _PARENT,
    "shutdown.restart": "the reply says restart: false to a request that says true",
    "shutdown.busy": f"{_RUNNING}; or it aborts: unable to get sys.modules",
    "debugger.response": "inspectVariables before initialize ends the process",
    "debugger.variables": "inspectVariables before initialize ends the process",
    "debugger.copy": "the reply is {}",
    "debugger.unknown": "the reply is {}",
    "debugger.malformed": "it is not answered, or by {}",
    "shutdown.broadcast": "what it publishes is called shutdown, not shutdown_reply",
    "messages.readable": "the content of a reply to a malformed history_request is null",
    "messages.parent-object": "the parent header is null where there is none",
}

_ASYNC = {
    "execute.silent-output": _STREAM,
    "execute.silent-error": "the error of a silent cell is published",
    "execute.aborts": "what is queued does not run, but its reply says error, not aborted",
    "execute.aborted-reply": "the same",
    "display.update": "the message's type is iopub_update_display_data",
    "display.update-later": "the same",
    "display.clear": "clear_output publishes nothing",
    "json.surrogate": "the piece of output is lost",
    "comm.messages": "nothing comes back from a comm that answers in its on_msg",
    "stdin.input": "the cell fails with KeyError 'status': the input_reply has a value only, as "
    "messaging.rst and jupyter_client have it",
    "stdin.stale": "the same",
    "request.malformed": "it is answered as if the field were empty",
    "request.malformed-history": "an unknown type is answered by ok",
    "request.wrong-types": "an execute_request gets neither idle nor reply",
    "request.malformed-control": "it is answered as if the field were empty",
    "request.malformed-busy": "it is answered as if the field were empty",
    "wire.verify-first": "a signature is remembered before it is verified, as in jupyter_client",
    "heartbeat.busy": "there is no echo while code keeps the interpreter's lock",
    "iopub.topic": "an error has no topic frame",
    "iopub.no-drop": _DROP,
    "welcome.every": _FIRST,
    "starting.parent": _PARENT,
    "shutdown.busy": "it is answered when the cell has ended",
    "debugger.response": "the reply to modules has a body only, that to richInspectVariables a "
    "field sequence_seq in the place of request_seq",
    "subshells.executes": "its subshells share one thread: one waits for the cell of another that "
    "computes",
    "subshells.unknown": "an unknown subshell is the main shell, and its deletion is ok",
    "shutdown.broadcast": "nothing is published",
    "messages.content": "execute_input repeats the code of a malformed request, which is null",
}

FAULTS: Mapping[str, Mapping[str, str]] = {
    "ipykernel": _IPYKERNEL,
    "xeus-python": _XEUS,
    "async-kernel": _ASYNC,
}

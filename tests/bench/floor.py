"""The floor: a blocking loop that verifies, parses, signs and sends an execute cycle's messages.

Nothing but pyzmq and the standard library, and none of what makes a kernel: run as a script.
"""

import hmac
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import zmq

info = json.loads(Path(sys.argv[-1]).read_text())
KEY = hmac.new(info["key"].encode(), digestmod="sha256")
context = zmq.Context()
session = uuid.uuid4().hex
names: dict[str, object] = {}


def bind(kind: int, port: str) -> zmq.Socket:  # type: ignore[type-arg]
    socket = context.socket(kind)
    socket.bind(f"tcp://{info['ip']}:{info[port]}")
    return socket


shell, iopub = bind(zmq.ROUTER, "shell_port"), bind(zmq.XPUB, "iopub_port")
control, heartbeat = bind(zmq.ROUTER, "control_port"), bind(zmq.REP, "hb_port")


def sign(parts: list[bytes]) -> bytes:
    signature = KEY.copy()
    for part in parts:
        signature.update(part)
    return signature.hexdigest().encode()


def send(socket: zmq.Socket, ident: bytes, kind: str, content: object, parent: bytes) -> None:  # type: ignore[type-arg]
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "session": session,
        "username": "floor",
        "date": datetime.now(UTC).isoformat(),
        "version": "5.3",
    }
    parts = [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]
    socket.send_multipart([ident, b"<IDS|MSG>", sign(parts), *parts])


count = 0
while True:
    ident, _, signature, *parts = shell.recv_multipart()
    if not hmac.compare_digest(signature, sign(parts)):
        continue
    header, _, _, content = map(json.loads, parts)
    send(iopub, b"status", "status", {"execution_state": "busy"}, parts[0])
    if header["msg_type"] == "execute_request":
        count += 1
        shown = {"code": content["code"], "execution_count": count}
        send(iopub, b"execute_input", "execute_input", shown, parts[0])
        exec(content["code"], names)
        reply = {"status": "ok", "execution_count": count, "payload": [], "user_expressions": {}}
        send(shell, ident, "execute_reply", reply, parts[0])
    else:
        reply = {"status": "ok", "protocol_version": "5.3", "implementation": "floor"}
        send(shell, ident, "kernel_info_reply", reply, parts[0])
    send(iopub, b"status", "status", {"execution_state": "idle"}, parts[0])

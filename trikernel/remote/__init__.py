"""Kernels that a gateway starts on another machine: Jupyter Enterprise Gateway's launcher contract.

What is wanted
    A gateway starts a kernel where it cannot pass it a file, a signal or a pipe: by ssh, in a
    container, through a batch system. It needs the kernel's ports and key, which nobody else may
    read on the way. It must also be able to send a signal to that process, to end it and to ask
    whether it lives, although the process is not its child.

What does not work
    A launcher beside the kernel, like the gateways' own. That one looks for free ports, writes them
    into a file, and tells them to the gateway before the kernel has bound any. It forks a process
    for the signal port, which stays open even if the kernel has ended. (A connection that sends
    nothing blocks that process, and one that sends nonsense ends it; then no later signal arrives.)

What is done
    `launch` runs in the kernel's own process. It binds the five sockets and the *communication
    port*, within a range if one is given, and only then sends its *response*: the fields of a
    connection file and that port, encrypted so that only the gateway can read it (`response`). Then
    an ordinary server runs. A task in its service loop, where control is handled too, listens on
    the communication port: so it answers while a cell computes, and the port is open exactly as
    long as the kernel runs (`communication`). An order on that port does the same as a message on
    control: it interrupts, or shuts down (`orders`).

    If both ends are ours, none of this is needed: with ``--registration-file`` the kernel registers
    by the startup handshake, CURVE encrypts its channels, and there is no further port.

    No parent process is watched: the process that has started the kernel may end, and the gateway
    may end and come back.

What remains
    The contract has no authentication: everyone who can connect to the communication port can end
    the kernel, unless ``--trust`` limits the addresses. Everyone who knows a kernel's id and can
    connect to the gateway's port can answer in its place. The response's cipher is given by the
    contract, too (AES in ECB mode, its key encrypted by RSA with PKCS #1 v1.5). C code that holds
    the interpreter lock delays this port as it delays control.

Source: "Implementing a kernel launcher" in Jupyter Enterprise Gateway's documentation;
gateway_provisioners' ``server_listener.py``.
"""

from __future__ import annotations

from .communication import CommunicationPort, Order, read_order
from .flags import add_launch_flags, class_name_of, launch_of
from .launch import Launch, Launched, launch
from .orders import obey
from .response import Gateway, gateway_of, seal, send_response

__all__ = [
    "CommunicationPort",
    "Gateway",
    "Launch",
    "Launched",
    "Order",
    "add_launch_flags",
    "class_name_of",
    "gateway_of",
    "launch",
    "launch_of",
    "obey",
    "read_order",
    "seal",
    "send_response",
]

"""Kernels that a gateway starts on another machine: Jupyter Enterprise Gateway's launcher contract.

What is wanted
    A server starts a kernel where it cannot pass it a file, a signal or a pipe: by ssh, in a
    container, through a batch system. It needs the kernel's ports and key, which nobody else may
    read on the way, and a way to signal, to end and to ask after a process that is not its child.

What does not work
    A launcher beside the kernel, as the gateways' own: it looks for free ports, writes them into a
    file, answers for the kernel before that has bound one of them, and forks a process that holds
    the port for signals open whatever has become of the kernel. (Any connection that is opened and
    says nothing keeps that process from hearing anything else, and one that speaks nonsense ends
    it, and with it every later signal.)

What is done
    `launch` is the kernel's own process. It binds the five sockets and the *communication port*,
    within a range if there is one, and only then sends its *response*: all that a connection file
    says, and that port, encrypted with a key that only the gateway can read (`response`). Then an
    ordinary server runs. The communication port is a task in its service loop, beside control, so
    it is heard while a cell computes, and it is there exactly as long as the kernel
    (`communication`). What it hears becomes what a message over control would: an interrupt, a
    shutdown (`orders`).

    Where both ends are ours there is nothing of this: with a registration (`--registration-file`)
    the kernel registers by the startup handshake, CURVE encrypts its channels, and there is no
    further port.

    No parent is watched: who has started the process may be gone, and the gateway come back.

What remains
    The contract knows no authentication: whoever reaches the communication port can end the kernel,
    unless ``--trust`` says from where orders are taken. Whoever knows a kernel's id and reaches the
    gateway's port can answer in its place. The response's cipher (AES in ECB mode, its key by RSA
    with PKCS #1 v1.5) is the contract's, too. C code that holds the interpreter lock holds up this
    port as it does control.

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

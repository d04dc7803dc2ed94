import socket

SOCKET = socket.socket()

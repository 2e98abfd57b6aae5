# Asks nginx for a page over four connections, many requests at once: the path of its socket, then seconds in, requests a second
# out, until end of input.
import selectors
import socket
import sys
import time

AT_ONCE = 50
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * AT_ONCE


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.seen, self.rest = 0, b""

    def send(self):
        self.seen, self.rest = 0, b""
        self.socket.sendall(REQUEST)

    def receive(self):
        data = self.rest + self.socket.recv(1 << 16)
        if not data:
            sys.exit("nginx closed a connection")
        self.seen += data.count(b"HTTP/1.1 200")
        self.rest = data[-11:]
        if self.rest.startswith(b"HTTP/1.1 200"):
            self.rest = b""
        return self.seen == AT_ONCE


connections = [Connection(sys.argv[1]) for _ in range(4)]
selector = selectors.DefaultSelector()
for connection in connections:
    selector.register(connection.socket, selectors.EVENT_READ, connection)
for line in sys.stdin:
    seconds, done, began = float(line), 0, time.monotonic()
    for connection in connections:
        connection.send()
    busy = len(connections)
    while busy:
        for key, _ in selector.select():
            if not key.data.receive():
                continue
            done += AT_ONCE
            if time.monotonic() - began < seconds:
                key.data.send()
            else:
                busy -= 1
    print(done / (time.monotonic() - began), flush=True)

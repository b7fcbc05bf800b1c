"""A client that is no bottleneck: `python -m bench.asking PORT CONNECTIONS EACH ORDERS SEED` prints commands a second.

It has a thread and an epoll of its own and parses nothing but the first line, so that what it measures is the server.
On each connection one request is under way at a time, as with 64 callers of `execute`.
"""

import random
import select
import socket
import sys
import time

from bench.orders import NOTE, order_id

BODY = '{"order_id":"%s","sku":"sku-0001","quantity":1,"price":100,"note":"%s"}'
HEAD = "POST /commands/Add HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def request(number: int) -> bytes:
    """Return a command that adds to an order, as bytes."""
    body = BODY % (order_id(number), NOTE)
    return (HEAD % len(body) + body).encode()


def ask(port: int, connections: int, each: int, orders: int, seed: int) -> float:
    """Send so many commands on each connection; return how many were answered a second."""
    dice = random.Random(seed)
    requests = [request(number) for number in dice.choices(range(1, orders + 1), k=connections * each)]
    open_ = {}
    poll = select.epoll()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    start = time.perf_counter()
    for connection in open_.values():
        connection.send(requests.pop())
    answered = 0
    while answered < connections * each:
        for found, _ in poll.poll():
            connection = open_[found]
            answer = connection.recv(65536)
            while not answer.endswith(b"}"):
                more = connection.recv(65536)
                assert more, answer
                answer += more
            assert answer.startswith(b"HTTP/1.1 200"), answer
            answered += 1
            if requests:
                connection.send(requests.pop())
    seconds = time.perf_counter() - start
    for connection in open_.values():
        connection.close()
    return answered / seconds


if __name__ == "__main__":
    sys.stdout.write(f"{ask(*map(int, sys.argv[1:]))}\n")

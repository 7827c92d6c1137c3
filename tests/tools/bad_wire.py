"""
A wire that damages what it carries. Listens on 127.0.0.1 in another network namespace, on the given ports, and connects
whoever comes there with the same port of 127.0.0.1 here: who is mounted in that namespace has it between himself and all
servers.

    bad_wire.py /run/netns/NAME PORT...

Takes orders on stdin: a line of words from flip, drop, twice, insert, cut, stall: what may happen to what passes, some
times a second; an empty line: nothing. Says "ok" to each, and at the end of input what it has done. Standard library only.
"""
import collections, contextlib, ctypes, os, random, socket, sys, threading, time

PAUSE_S = 0.1  # between two faults
STALL_S = 15   # as if the other end had gone: longer than a peer is given to show that it lives

faults, done, lock, last = [], collections.Counter(), threading.Lock(), 0.0

def enter(path):
    with open(path) as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")

def fault_now():
    """One of those that may be, if it is time for one."""
    global last
    with lock:
        if not faults or time.monotonic() < last + PAUSE_S or random.randrange(4): return None
        last = time.monotonic()
        fault = random.choice(faults)
        if fault == "stall" and random.randrange(5): return None
        done[fault] += 1
        return fault

def damaged(data, fault):
    at = random.randrange(len(data))
    if fault == "flip": return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1:]
    if fault == "drop": return data[:at] + data[at + random.randrange(1, 100):]
    if fault == "twice": return data + data
    if fault == "insert": return data[:at] + os.urandom(random.randrange(1, 100)) + data[at:]
    return data[:at]

def carry(source, target, stalled):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            fault = fault_now()
            if fault == "stall": stalled.append(time.monotonic() + STALL_S)
            elif fault: data = damaged(data, fault)
            if stalled: time.sleep(max(0, stalled[-1] - time.monotonic()))
            if data: target.sendall(data)
            if fault == "cut": break
    for end in source, target:
        with contextlib.suppress(OSError): end.shutdown(socket.SHUT_RDWR)

def listen(listener, port):
    while True:
        here, _ = listener.accept()
        try: there = socket.create_connection(("127.0.0.1", port))
        except OSError:
            here.close()
            continue
        stalled = []
        for ends in (here, there), (there, here):
            ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=carry, args=(*ends, stalled), daemon=True).start()

def main():
    ports = [int(port) for port in sys.argv[2:]]
    enter(sys.argv[1])
    listeners = [socket.create_server(("127.0.0.1", port), backlog=64) for port in ports]
    # Of this thread only, so by this thread again.
    enter(f"/proc/{os.getppid()}/ns/net")
    for listener, port in zip(listeners, ports):
        threading.Thread(target=listen, args=(listener, port), daemon=True).start()
    print("ok", flush=True)
    for line in sys.stdin:
        with lock: faults[:] = line.split()
        print("ok", flush=True)
    print(*(f"{fault} {count}" for fault, count in done.items()), flush=True)

main()

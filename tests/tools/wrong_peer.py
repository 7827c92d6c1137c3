"""
A peer that does what none may do, to a server at work. Speaks the protocol by itself (common/opening.h, common/frame.h),
so that it can break each rule of it on its own.

    wrong_peer.py KEYFILE HOST:PORT ROLE ATTACK...

Each attack waits for what the server must do about it, and says so when that does not happen: exit status 1. Python's
standard library only.
"""
import contextlib, hashlib, hmac, os, random, re, resource, select, socket, struct, sys, time

CLIENT = 4  # enum role
OPENING_S, FRAME_S = 5, 10  # deadlines of a server: OPENING_DEADLINE_MS, SERVICE_FRAME_DEADLINE_MS
LATE_S = 20  # and how much later it may be on a machine that is busy
EKEYREJECTED, EPERM, EPROTO, EBADMSG, EOPNOTSUPP = 129, 1, 71, 74, 95
PING = 0x001
BODY_MAX = 1 << 20

# --- the protocol -----------------------------------------------------------------------------------------------------

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF

def hello(own_role=CLIENT, version=1, fs=bytes(16)):
    return struct.pack("<4sHHBBB5x16s16s16s32s", b"STKO", version, version, own_role, 0, 1, os.urandom(16), fs, bytes(16),
                       os.urandom(32))

def proof(key, greeting, welcome):
    return hmac.new(key, b"strake client" + greeting + welcome, hashlib.sha256).digest()

def frame(opcode=PING, body=b"", bulk=b"", kind=1, xid=1, session=0, seq=1, body_len=None, bulk_len=None, magic=b"STRK",
          version=1):
    header = struct.pack("<4sBBHHHIQQIIIIQQI", magic, version, kind, opcode, 0, 0, 0, xid, session, 0, seq,
                         len(body) if body_len is None else body_len, len(bulk) if bulk_len is None else bulk_len, 0, 0,
                         crc32c(body))
    return header + struct.pack("<I", crc32c(header)) + body + bulk

class Server:
    def __init__(self, key, address, role):
        host, port = address.rsplit(":", 1)
        self.key, self.address, self.role = key, (host.strip("[]"), int(port)), role

    def connect(self):
        return socket.create_connection(self.address, timeout=OPENING_S + LATE_S)

    def open(self, key=None):
        """A connection that is through its opening, or the status that it was refused with; and what was said."""
        conn = self.connect()
        greeting = hello()
        conn.sendall(greeting)
        welcome = receive(conn, 240)
        said = greeting + proof(key or self.key, greeting, welcome)
        conn.sendall(said[96:])
        accept = receive(conn, 140)
        assert accept[:4] == b"STKO", accept
        status, = struct.unpack_from("<I", accept, 4)
        return conn, status, said

    def opened(self):
        conn, status, _ = self.open()
        assert status == 0, f"the right key is refused: {status}"
        return conn

def receive(conn, size):
    data = b""
    while len(data) < size:
        piece = conn.recv(size - len(data))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return data

def answer(conn):
    """(status, xid) of the next frame."""
    header = receive(conn, 72)
    status, xid = struct.unpack_from("<IQ", header, 12)
    body_len, bulk_len = struct.unpack_from("<II", header, 40)
    receive(conn, body_len + bulk_len)
    return status, xid

def expect_end(conn, within=LATE_S):
    """It must end the connection; returns after how long."""
    began = time.monotonic()
    conn.settimeout(within)
    with contextlib.suppress(ConnectionError):
        try:
            while conn.recv(65536): pass
        except TimeoutError:
            raise AssertionError(f"not cut off within {within} s") from None
    conn.close()
    return time.monotonic() - began

def send(conn, data):
    with contextlib.suppress(ConnectionError): conn.sendall(data)  # cut off already, as it should be

# --- attacks ----------------------------------------------------------------------------------------------------------

def garbage(server):
    for data in b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + os.urandom(300), b"\0", b"STKO"[::-1] * 100:
        conn = server.connect()
        send(conn, data)
        expect_end(conn, OPENING_S - 1)

def greetings(server):
    """Greetings with something wrong; the server says what."""
    for bytes_ in hello(version=99), hello(fs=b"x" * 16), hello(own_role=77):
        conn = server.connect()
        conn.sendall(bytes_)
        welcome = receive(conn, 240)
        assert struct.unpack_from("<I", welcome, 8)[0] != 0 and welcome[80] != 0, welcome
        expect_end(conn)

def wrong_key(server):
    conn, status, _ = server.open(key=os.urandom(32))
    assert status == EKEYREJECTED, status
    expect_end(conn)

def replay(server):
    """What a good client has said is good for nothing."""
    conn, status, said = server.open()
    assert status == 0, status
    conn.sendall(frame(xid=5))
    assert answer(conn) == (0, 5)
    again = server.connect()
    again.sendall(said + frame(xid=5))
    receive(again, 240)
    status, = struct.unpack_from("<I", receive(again, 140), 4)
    assert status == EKEYREJECTED, status
    expect_end(again)
    conn.close()

def reflect(server):
    """The server's own proof is not ours."""
    conn = server.connect()
    conn.sendall(hello())
    conn.sendall(receive(conn, 240)[208:])
    status, = struct.unpack_from("<I", receive(conn, 140), 4)
    assert status == EKEYREJECTED, status
    expect_end(conn)

def flipped(server):
    """One bit, in every part of a frame."""
    good = frame(body=b"\x0a\x04body", xid=3)
    for at in 0, 4, 5, 6, 16, 40, 44, 64, 68, 71, 72, 77:
        conn = server.opened()
        bad = bytearray(good)
        bad[at] ^= 1 << random.randrange(8)
        send(conn, bytes(bad))
        conn.shutdown(socket.SHUT_WR)
        expect_end(conn)

def lies(server):
    """Lengths and kinds that cannot be, under right sums."""
    for bad in (frame(body_len=BODY_MAX + 1), frame(body_len=0xFFFFFFFF), frame(bulk_len=BODY_MAX + 1),
                frame(bulk_len=0xFFFFFFFF), frame(kind=2), frame(kind=3), frame(kind=9), frame(magic=b"KRTS"),
                frame(version=2), frame(body=b"short", body_len=3) + bytes(100)):
        conn = server.opened()
        send(conn, bad)
        expect_end(conn)

def strangers(server):
    """Frames that are right and ask for what is not to be had: told, and the connection goes on."""
    conn = server.opened()
    for opcode, body, want in (0xFFF, b"", EOPNOTSUPP), ({"mgs": 0x210, "mdt": 0x301, "ost": 0x210}[server.role], b"", EOPNOTSUPP):
        conn.sendall(frame(opcode, body, bulk=b"b" * 5000, xid=opcode))
        assert answer(conn) == (want, opcode)
    own = {"mgs": 0x101, "mdt": 0x201, "ost": 0x301}[server.role]
    conn.sendall(frame(own, b"\xff" * 50, xid=8))
    assert answer(conn) == (EBADMSG, 8)
    if server.role == "ost":
        conn.sendall(frame(0x321, xid=9))  # DESTROY is the MDT's
        assert answer(conn) == (EPERM, 9)
    else:
        conn.sendall(frame(bulk=bytes(BODY_MAX), xid=9))  # nothing here has bulk
        assert answer(conn) == (EPROTO, 9)
    conn.sendall(frame(xid=10))
    assert answer(conn) == (0, 10)
    conn.close()

def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])

def schema():
    """{message: [(label, type, number)]}, {opcode: (role, request)}, of this tree's proto/."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto")
    messages, ops = {}, {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as file: text = re.sub(r"//.*", "", file.read())
        for message, body in re.findall(r"message (\w+) \{(.*?)\}", text, re.S):
            messages[message] = re.findall(r"(required|optional|repeated) ([\w.]+) \w+ = (\d+)", body)
        if name == "ops.def":
            for number, role, request in re.findall(r"^OP\(\w+, (\w+), (\w+), (\w+),", text, re.M):
                ops[int(number, 0)] = role.lower(), request
    return messages, ops

def number():
    """Of no inode but the root, of no session."""
    return random.choice((0, 1, 1 << 31, 1 << 63, (1 << 64) - 1, random.getrandbits(64) | 1 << 50))

def noise_message(messages, name):
    """Right in form, but for a few."""
    out = b""
    for label, type_, field in messages[name]:
        for _ in range({"required": random.random() < 0.99, "optional": random.randrange(2)}.get(label, random.randrange(4))):
            key = int(field) << 3
            if type_ in ("fixed64", "sfixed64"): out += varint(key | 1) + struct.pack("<Q", number())
            elif type_ in ("fixed32", "sfixed32"): out += varint(key | 5) + os.urandom(4)
            elif type_ in ("bytes", "string") or type_ in messages:
                if type_ in messages: data = noise_message(messages, type_)
                elif type_ == "bytes": data = os.urandom(random.choice((0, 1, 16, 16, 300)))
                else: data = random.choice((b"", b".", b"..", b"a/b", b"n%d" % random.randrange(9), b"\0x", b"\xff" * 255,
                                            b"x" * 5000, b"user.x"))
                out += varint(key | 2) + varint(len(data)) + data
            else: out += varint(key) + varint(random.choice((0, 1, 2, number())) if type_ == "bool" or random.randrange(2)
                                              else number())
    return out

def noise_session(server, conn):
    """An MDT lets nobody in without."""
    if server.role != "mdt": return 0
    body = b"\x0a\x10" + os.urandom(16) + b"\x12\x05noise\x18\x01\x28\x04"
    conn.sendall(frame(0x201, body))
    header = receive(conn, 72)
    body = receive(conn, struct.unpack_from("<I", header, 40)[0])
    assert header[12:16] == bytes(4) and body[0] == 8, (header, body)
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(body[1:11]) if all(b & 0x80 for b in body[1:i + 1]))

def noise(server):
    """Messages that have a form and no sense, of every operation of this server: answered, each, by nothing worse."""
    seed = int(os.environ.get("SEED", random.getrandbits(32)))
    random.seed(seed)
    print(f"noise: seed {seed}", flush=True)
    messages, ops = schema()
    mine = [op for op, (role, _) in ops.items() if role == server.role and op not in (0x103, 0x203)]
    assert mine, "no operations"
    conn = server.opened()
    session = noise_session(server, conn)
    statuses = {}
    for i in range(int(os.environ.get("NOISE", "2000"))):
        op = random.choice(mine)
        bulk = os.urandom(random.choice((1, 4096))) if random.random() < 0.2 else b""
        conn.sendall(frame(op, noise_message(messages, ops[op][1]), bulk, xid=i, seq=i + 1,
                           session=session if random.random() < 0.95 else number()))
        status, xid = answer(conn)
        assert xid == i, (xid, i)
        statuses[status] = statuses.get(status, 0) + 1
    conn.close()
    print("noise: answers", statuses)

def silent(server):
    """In mid-greeting and in mid-frame: cut off in time, one that sends a byte now and then too, and a hundred that promise
    a body of 1 MiB and a bulk, and send none. All at once."""
    whole = frame(body=b"x" * 3000, bulk=b"b" * 5000)
    began, waiting, drips = time.monotonic(), {}, []
    for part in b"STKO", hello()[:95], hello():
        conn = server.connect()
        conn.sendall(part)
        waiting[conn] = OPENING_S
    for part in whole[:1], whole[:71], whole[:72], whole[:100], whole[:4000], whole + whole[:9], *[frame(body_len=BODY_MAX, bulk_len=BODY_MAX)] * 100:
        conn = server.opened()
        conn.sendall(part)
        waiting[conn] = FRAME_S
    drips = [conn for conn in (server.opened(), server.opened())]
    waiting.update((conn, FRAME_S) for conn in drips)
    count = len(waiting)
    dripped = 0
    while waiting:
        for conn in select.select(list(waiting), [], [], 0.2)[0]:
            try: data = conn.recv(65536)
            except ConnectionError: data = b""
            if data: continue  # a WELCOME, or an answer
            took = time.monotonic() - began
            assert took > waiting[conn] - 1, f"cut off after {took:.1f} s"
            del waiting[conn]
        for conn in drips:
            if conn in waiting: send(conn, whole[dripped % 60:][:1])
        dripped += 1
        for conn, deadline in waiting.items():
            assert time.monotonic() - began < deadline + LATE_S, f"not cut off after {deadline + LATE_S} s"
    print(f"silent: {count} cut off within {time.monotonic() - began:.1f} s")

def hoard(server):
    """400 that begin a WRITE and stop in the middle of its bulk: together they hold all memory that there is for bulk."""
    body = b"\x0a" + bytes([len(b"\x08\x01\x10\x01\x18\x00\x20" + varint(65536))])
    body += b"\x08\x01\x10\x01\x18\x00\x20" + varint(65536) + b"\x10\x00"
    conns = []
    for i in range(400):
        conns.append(server.opened())
        conns[-1].sendall(frame(0x310, body, b"begun", bulk_len=(1 << 20, 1 << 19, 1 << 16)[0 if i < 20 else 1 if i < 110 else 2]))
    for conn in conns: expect_end(conn, FRAME_S + LATE_S)

def well(server):
    conn = server.opened()
    conn.sendall(frame(xid=77))
    assert answer(conn) == (0, 77)
    conn.close()

def idle(server):
    """IDLE connections, half of them without a greeting, held until those are cut off; others are served meanwhile."""
    count = int(os.environ.get("IDLE", "10000"))
    mute, opened, slowest = [], [], 0
    for i in range(count):
        (mute if i % 2 else opened).append(server.connect() if i % 2 else server.opened())
        if i % 100 == 0:
            began = time.monotonic()
            well(server)
            slowest = max(slowest, time.monotonic() - began)
    for conn in mute: expect_end(conn, OPENING_S + LATE_S)
    for conn in opened[::100]:
        conn.sendall(frame(xid=4))
        assert answer(conn) == (0, 4)
    print(f"idle: {count}; others were served within {slowest:.2f} s")
    if "HOLD" in os.environ:  # until somebody has looked
        open(os.environ["HOLD"], "w").close()
        while os.path.exists(os.environ["HOLD"]): time.sleep(0.05)

def flood(server):
    """Refused as often as can be, for FLOOD seconds."""
    count, until = 0, time.monotonic() + int(os.environ.get("FLOOD", "10"))
    while time.monotonic() < until:
        conn = server.connect()
        send(conn, b"nonsense")
        expect_end(conn)
        count += 1
    print(f"flood: {count} refused")

def main():
    keyfile, address, role, *attacks = sys.argv[1:]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    server = Server(bytes.fromhex(open(keyfile).read().strip()), address, role)
    for name in attacks:
        try: globals()[name](server)
        except (AssertionError, OSError) as error: sys.exit(f"wrong_peer: {role} {address}: {name}: {error!r}")
        well(server)

if __name__ == "__main__": main()

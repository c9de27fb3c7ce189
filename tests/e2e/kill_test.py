#!/usr/bin/env python3
"""Kills the prefill or the decode process at every message of a hand-off, one message at a time.

Two real node processes, a client process, and between the nodes a relay that knows frames: when the
chosen frame is about to be passed on, the victim gets SIGKILL. Each time:

- the client ends with an error that says what happened, or (killed after the commit, when nothing is
  missing any more) with exactly the tokens of an undisturbed run;
- the survivor serves on: a generation that another client has under way on the decode node is
  exactly that of an undisturbed run, and once the victim is started again so is a new request.

usage: kill_test.py PROGRAM_DIR MODEL
"""
import atexit
import collections
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HEADER_BYTES = 48
TYPES = {1: "HELLO", 2: "PING", 3: "PONG", 4: "ERROR", 5: "GOODBYE", 16: "OFFER", 17: "ACCEPT",
         18: "FIRST_TOKEN", 19: "BLOCK", 20: "CREDIT", 21: "END", 22: "COMMITTED", 23: "CANCEL"}
PROGRAMS = pathlib.Path(sys.argv[1])
MODEL = sys.argv[2]
WAIT = 60  # seconds; nothing here takes that long


class Node:
    """A node process that listens."""

    def __init__(self, name, *arguments, listen="tcp://127.0.0.1:0"):
        command = [PROGRAMS / name, "--model", MODEL, "--threads", "1", "--timeout", "10",
                   "--listen", listen, *arguments]
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        atexit.register(self.process.kill)  # also when an assertion ends the test
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), f"{name} did not start: {line!r}"
        self.address = line.split()[-1]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.terminate()
        self.process.wait(WAIT)
        self.process.stdout.close()


class Relay:
    """Passes frames between the nodes; on_frame(direction, type, number of that type) before each."""

    def __init__(self, decode_address):
        self.target = decode_address
        self.on_frame = lambda *_: None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            inner, _ = self.listener.accept()
            host, port = self.target.removeprefix("tcp://").rsplit(":", 1)
            try:
                outer = socket.create_connection((host, int(port)))
            except OSError:
                inner.close()
                continue
            for direction, source, sink in (("to decode", inner, outer), ("to prefill", outer, inner)):
                threading.Thread(target=self.pump, args=(direction, source, sink), daemon=True).start()

    def pump(self, direction, source, sink):
        def receive(count):
            data = b""
            while len(data) < count:
                part = source.recv(count - len(data))
                if not part:
                    raise EOFError
                data += part
            return data

        seen = collections.Counter()
        try:
            while True:
                header = receive(HEADER_BYTES)
                payload = receive(int.from_bytes(header[24:28], "little"))
                kind = TYPES.get(header[5], str(header[5]))
                seen[kind] += 1
                self.on_frame(direction, kind, seen[kind])
                sink.sendall(header + payload)
        except (OSError, EOFError):
            pass
        finally:
            # Half-closed pipes are no use to the protocol: when one side ends, both do.
            for s in (source, sink):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def client(prefill, ids_file, tokens):
    return subprocess.Popen([str(PROGRAMS / "kvferry-client"), "--prefill", prefill, "--ids-file",
                             ids_file, "--max-tokens", str(tokens), "--ignore-eos", "--json",
                             "--timeout", "20"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """(token ids or None, the error line)"""
    out, err = process.communicate(timeout=WAIT)
    if process.returncode == 0:
        return json.loads(out)["ids"], ""
    assert err.startswith("error: ") and err.count("\n") == 1, f"not one error line: {err!r}"
    return None, err.strip()


def main():
    folder = tempfile.mkdtemp()
    short, long = os.path.join(folder, "short.json"), os.path.join(folder, "long.json")
    pathlib.Path(short).write_text(json.dumps([5 + 3 * i % 400 for i in range(40)]))
    pathlib.Path(long).write_text(json.dumps([7 + 5 * i % 400 for i in range(70)]))

    decode = Node("kvferry-decode")
    relay = Relay(decode.address)
    arguments = ["--decode", relay.address, "--decode-for-clients", decode.address]
    prefill = Node("kvferry-prefill", *arguments)
    # The other client's requests do not pass the relay.
    direct = Node("kvferry-prefill", "--decode", decode.address)

    # An undisturbed run: what has to come out, and which frames there are to kill at.
    frames = queue.Queue()
    relay.on_frame = lambda *frame: frames.put(frame)
    expected, error = finish(client(prefill.address, short, 24))
    assert expected, error
    expected_long, error = finish(client(direct.address, long, 300))
    assert expected_long, error
    schedule = sorted(frames.queue)
    assert any(kind == "COMMITTED" for _, kind, _ in schedule)

    cases = served = told = 0
    for victim in ("prefill", "decode"):
        for direction, kind, number in schedule:
            dying = prefill if victim == "prefill" else decode
            bystander = client(direct.address, long, 300) if victim == "prefill" else None

            killed = threading.Event()

            def on_frame(*frame, dying=dying, wanted=(direction, kind, number), killed=killed):
                if frame == wanted and not killed.is_set():
                    dying.kill()
                    killed.set()

            relay.on_frame = on_frame
            ids, error = finish(client(prefill.address, short, 24))
            where = f"{victim} killed at {kind} {number} {direction}"
            # How many CREDITs there are depends on timing: the last one may not come again.
            if not killed.wait(1):
                assert kind == "CREDIT" and ids == expected, f"{where}: the frame did not come"
                dying.kill()
            relay.on_frame = lambda *_: None
            if ids is None:
                assert victim in error, f"{where}: the error does not say who failed: {error}"
                told += 1
            else:
                assert ids == expected, f"{where}: wrong tokens"
                served += 1
            print(f"{where}: {error or 'all tokens, unchanged'}", flush=True)

            survivor = decode if victim == "prefill" else prefill
            assert survivor.alive(), f"{where}: the other node died too"
            if bystander is not None:
                ids, error = finish(bystander)
                assert ids == expected_long, f"{where}: the earlier sequence suffered: {error}"
            dying.stop()
            if victim == "prefill":
                prefill = Node("kvferry-prefill", *arguments, listen=dying.address)
            else:
                decode = Node("kvferry-decode", listen=dying.address)
            ids, error = finish(client(prefill.address, short, 24))
            assert ids == expected, f"{where}: not served after the restart: {error}"
            cases += 1

    for node in (prefill, decode, direct):
        node.stop()
    print(f"{cases} kills: {told} told to the client, {served} too late to matter; "
          "every survivor served on")


if __name__ == "__main__":
    main()

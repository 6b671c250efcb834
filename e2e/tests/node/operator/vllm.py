#!/usr/bin/env python3
"""Stands in for vLLM where a copy of a teacher is spread over nodes: it takes vLLM's flags, meets its other nodes as vLLM's processes do, and answers
only once all of them are there. It is no model: whatever it is asked, it says that it has nothing to do."""

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MEETING_PORT = 29501
flags = dict(argument.partition("=")[::2] for argument in sys.argv[2:])
nodes, rank, leader = int(flags["--nnodes"]), int(flags["--node-rank"]), flags["--master-addr"]
assert flags["--pipeline-parallel-size"] == flags["--nnodes"], flags
assert ("--headless" in flags) == (rank > 0), flags
print(f"node {rank} of {nodes}, whose leader is {leader}", flush=True)


def meet_the_leader():
    while True:
        try:
            with socket.create_connection((leader, MEETING_PORT), timeout=5) as meeting:
                meeting.sendall(f"{rank}\n".encode())
                meeting.settimeout(None)
                meeting.recv(1)
                # A copy that lost its leader is made anew as a whole.
                sys.exit(1)
        except OSError as error:
            print(f"waiting for {leader}: {error}", flush=True)
            time.sleep(1)


met = {0: None}


def meet_the_others():
    with socket.create_server(("", MEETING_PORT)) as meetings:
        while len(met) < nodes:
            other, _ = meetings.accept()
            met[int(other.recv(8))] = other
        print(f"all {nodes} nodes are there", flush=True)


class Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def say(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.say(200 if sorted(met) == list(range(nodes)) else 503, "text/plain", b"")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert asked["model"] == flags["--served-model-name"], asked["model"]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        said = {"role": "assistant", "content": "There is nothing to do."}
        answer = {"id": "1", "created": 0, "model": asked["model"], "usage": usage}
        if not asked.get("stream"):
            choice = {"index": 0, "message": said, "finish_reason": "stop"}
            whole = {**answer, "object": "chat.completion", "choices": [choice]}
            self.say(200, "application/json", json.dumps(whole).encode())
            return
        pieces = [{"index": 0, "delta": said, "finish_reason": None}, {"index": 0, "delta": {}, "finish_reason": "stop"}]
        events = [{**answer, "object": "chat.completion.chunk", "choices": [piece]} for piece in pieces]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.say(200, "text/event-stream", text.encode())


if rank > 0:
    meet_the_leader()
threading.Thread(target=meet_the_others, daemon=True).start()
ThreadingHTTPServer(("", int(flags["--port"])), Answers).serve_forever()

"""The page asked about images: how long an answer takes, beside the same computing by Python, and 32 readers at once.

A server is started as a user starts it. Alternating with the bare `predict` and map of the library in this process, the
same file is posted to it: decoding apart, the likeliest classes and where the network looks. Then the evidence, an
image with a part covered, and 2,000 requests of 32 clients, four fifths reading pages and one fifth asking.

Claim: an answer takes under 150 ms, the evidence 600, a covered part is redrawn 10 times a second, and 32 clients get
no error, a median under 1.5 s, and leave the server's memory within 20 MB. `page.py RUN`, a run of CIFAR-10; the ratio
is of the page's answer to the library's.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from paired import abba, median_ratio, tell, this_machine
from PIL import Image

from convscope.classifying.prediction import Prediction, predict
from convscope.explanation.attribution import METHODS
from convscope.images.preprocess import to_tensor
from convscope.training.runs import find_run, runs_folder

TARGET = 0.15  # s for an answer
CLIENTS, REQUESTS, ASKING = 32, 2000, 5  # every fifth request asks
PAGES = ("/", "/runs/{}", "/runs/{}/network", "/runs/{}.json")


class Server:
    """The page of one run, in a process of its own."""

    def __init__(self, run: Path) -> None:
        command = [sys.executable, "-m", "convscope", "serve", str(run), "--port", "0", "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.host = self.process.stdout.readline().split(";")[0].split("//")[1].rstrip("/")
        self.token = self.get("/")[1].decode().split('convscope-token" content="')[1].split('"')[0]
        self.run = run.name

    def get(self, address: str) -> tuple[int, bytes]:
        return self._request("GET", address, None)

    def ask(self, data: bytes) -> dict[str, Any]:
        status, body = self._request("POST", f"/runs/{self.run}/ask", data)
        assert status == 200, body
        return json.loads(body)

    def _request(self, method: str, address: str, data: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        headers = {"X-Convscope-Token": self.token} if data is not None else {}
        connection.request(method, address, data, headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def memory(self) -> int:
        """Bytes of the server's own memory, and of its decoder's."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in (str(self.process.pid), *children)]
        return sum(int(text.split("RssAnon:")[1].split()[0]) << 10 for text in texts)


def timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def photograph(seed: int) -> bytes:
    """A JPEG of 640 x 480, as a telephone sends it but for its size: shapes with noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    box = io.BytesIO()
    coarse.save(box, "JPEG", quality=90)
    return box.getvalue()


def crowd(server: Server, files: list[bytes]) -> tuple[list[float], list[str]]:
    """Seconds of each request of all clients, and what went wrong."""
    seconds: list[float] = []
    errors: list[str] = []

    def client(number: int) -> None:
        for i in range(number, REQUESTS, CLIENTS):
            start = time.perf_counter()
            try:
                if i % ASKING == 0:
                    server.ask(files[i % len(files)])
                else:
                    status, _ = server.get(PAGES[i % len(PAGES)].format(server.run))
                    assert status == 200, status
            except Exception as error:  # whatever a client meets counts
                errors.append(repr(error))
            seconds.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a finished run")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    run = find_run(options.run, runs_folder(None))
    classifier, files = run.classifier(), [photograph(seed) for seed in range(16)]
    server = Server(run.folder.resolve())

    def bare(data: bytes) -> list[tuple[str, float]]:
        (answer,) = predict(classifier, [("x", data)], 5)
        assert isinstance(answer, Prediction)
        pixels = classifier.preprocess.fit_image(data)
        inputs = classifier.preprocess.normalise(to_tensor(pixels[None].copy()))
        METHODS["grad-cam"](classifier.network, inputs, classifier.class_names.index(answer.label), None)
        return list(answer.top)

    try:
        for data in files:  # warm, and equal to the last bit
            assert [(row["label"], row["probability"]) for row in server.ask(data)["top"]] == bare(data)
        key = server.ask(files[0])["key"]
        turn = iter(range(10**6))
        ours, peer = abba(
            lambda: timed(lambda: server.ask(files[next(turn) % len(files)])),
            lambda: timed(lambda: bare(files[next(turn) % len(files)])),
            options.rounds,
        )
        ratio, low, high = median_ratio(ours, peer)
        evidence = [timed(lambda: server.get(f"/runs/{run.name}/asked/{key}/evidence")) for _ in range(30)]
        covered = [
            timed(lambda i=i: server.get(f"/runs/{run.name}/asked/{key}.json?cover=0.3&x={i / 40}&y=0.5"))
            for i in range(40)
        ]
        crowd(server, files)  # what is kept is kept now
        before = server.memory()
        seconds, errors = crowd(server, files)
        grown = server.memory() - before
    finally:
        server.process.terminate()
        server.process.wait(30)
    result = {
        "ratio": ratio, "low": low, "high": high, "ours": float(np.median(ours)), "peer": float(np.median(peer)),
        "unit": "s an answer", "better": "lower", "target": TARGET,
        "evidence": statistics.median(evidence), "redraws_a_second": 1 / statistics.median(covered),
        "clients": CLIENTS, "requests": len(seconds), "errors": len(errors),
        "median": statistics.median(seconds), "slowest": max(seconds), "grown_mb": grown / 2**20, **this_machine(),
    }  # fmt: skip
    tell(result, options.json)


if __name__ == "__main__":
    main()

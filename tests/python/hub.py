"""One hub cache for deptune and for Python's huggingface_hub.

usage: hub.py DEPTUNE QUICKSTART EMPTY_DIRECTORY
"""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

MODEL = "org/small"
NAMES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
LARGE = 4096


class Hub(http.server.BaseHTTPRequestHandler):
    """The routes of a hub with one model."""

    files: dict[str, bytes] = {}
    commit = ""
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = self.path.split("?")[0].strip("/").split("/")
        if path[:3] == ["api", "models", "org"] and path[3] == "small":
            return self.send(200, json.dumps(self.info()).encode(), {})
        name = path[-1]
        content = self.files.get(name)
        if content is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        if path[0] == "contents":
            return self.send_file(content, {"ETag": '"contents"'})
        sha = hashlib.sha256(content).hexdigest()
        if len(content) >= LARGE:
            host = self.headers["Host"]
            return self.send(
                302,
                b"",
                {
                    "Location": f"http://{host}/contents/{name}",
                    "X-Linked-Etag": f'"{sha}"',
                    "X-Linked-Size": str(len(content)),
                    "X-Repo-Commit": self.commit,
                },
            )
        headers = {"ETag": f'"{git(content)}"', "X-Repo-Commit": self.commit}
        return self.send_file(content, headers)

    def info(self):
        siblings = []
        for name, content in self.files.items():
            file = {"rfilename": name, "size": len(content), "blobId": git(content)}
            if len(content) >= LARGE:
                sha = hashlib.sha256(content).hexdigest()
                file["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
            siblings.append(file)
        return {"id": MODEL, "sha": self.commit, "siblings": siblings, "tags": []}

    def send_file(self, content, headers):
        first = self.headers.get("Range", "").removeprefix("bytes=").split("-")[0]
        if not first or int(first) >= len(content):
            return self.send(200, content, headers)
        total = len(content)
        headers["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
        return self.send(206, content[int(first) :], headers)

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def git(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def environment(home, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "DEPTUNE_"))}
    return kept | {"HOME": str(home), "HF_HOME": str(home / "hf"), "NO_PROXY": "*"} | more


def python(home, code, **more):
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment(home, **more), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def main(deptune, quickstart, work):
    Hub.files = {name: (quickstart / "model" / name).read_bytes() for name in NAMES}
    Hub.commit = hashlib.sha1(b"".join(Hub.files.values())).hexdigest()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"

    spec = work / "sweep.toml"
    text = (quickstart / "sweep.toml").read_text()
    text = text.replace('path = "model"', f'path = "{MODEL}"').replace('"data/', f'"{quickstart}/data/')
    assert MODEL in text, text
    spec.write_text(text)

    # deptune fetches, Python finds.
    ours = work / "ours"
    ours.mkdir()
    env = environment(ours, HF_ENDPOINT=endpoint, DEPTUNE_HOME=str(ours / "data"))
    log = (ours / "serve.log").open("w")
    serve = subprocess.Popen(
        [deptune, "serve", "--listen", "127.0.0.1:0"], env=env, stdout=log, stderr=log
    )
    try:
        for _ in range(200):
            if (ours / "data" / "coordinator.json").exists():
                break
            time.sleep(0.1)
        subprocess.run([deptune, "submit", "--upload-model", spec], env=env, check=True, timeout=120)
    finally:
        serve.terminate()
        serve.wait()
    found = python(
        ours,
        "import huggingface_hub as h, json\n"
        f"path = h.snapshot_download('{MODEL}', local_files_only=True)\n"
        f"commit = h.snapshot_download('{MODEL}', revision='{Hub.commit}', local_files_only=True)\n"
        "assert path == commit, (path, commit)\n"
        f"assert isinstance(h.try_to_load_from_cache('{MODEL}', 'config.json'), str)\n"
        "cache = h.scan_cache_dir()\n"
        "assert not cache.warnings, cache.warnings\n"
        "[repo] = cache.repos\n"
        "[revision] = repo.revisions\n"
        "print(json.dumps([path, repo.repo_id, revision.commit_hash, sorted(revision.refs),\n"
        "                  sorted(file.file_name for file in revision.files)]))",
        HF_HUB_OFFLINE="1",
    )
    path, repo, commit, refs, names = json.loads(found)
    assert (repo, commit, refs, names) == (MODEL, Hub.commit, ["main"], sorted(NAMES)), found
    for name, content in Hub.files.items():
        assert (pathlib.Path(path) / name).read_bytes() == content, name

    # Python fetches, deptune finds.
    theirs = work / "theirs"
    theirs.mkdir()
    python(
        theirs, f"import huggingface_hub as h; h.snapshot_download('{MODEL}')", HF_ENDPOINT=endpoint
    )
    server.shutdown()
    checked = subprocess.run(
        [deptune, "check", spec],
        env=environment(theirs, HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert checked.returncode == 0, checked.stderr
    assert "weights and tokenizer fit it" in checked.stdout, checked.stdout
    print("one cache for both: passed")


if __name__ == "__main__":
    main(sys.argv[1], *(pathlib.Path(arg).resolve() for arg in sys.argv[2:4]))

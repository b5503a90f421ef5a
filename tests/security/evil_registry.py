"""A registry of the tests' own, on loopback, for images that no builder makes: EvilRegistry().push(layers) -> name."""
import gzip
import hashlib
import http.client
import io
import json
import pathlib
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
HOST = "evil.invalid"  # never asked: it is mirrored


def digest_of(raw):
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def entry(name, kind=tarfile.REGTYPE, content=b"", link="", mode=0o755, device=(0, 0)):
    """One entry of a layer, with its content."""
    one = tarfile.TarInfo(name)
    one.type, one.size, one.linkname, one.mode = kind, len(content), link, mode
    one.devmajor, one.devminor = device
    return one, content


def layer(*entries):
    """A tar of entries that are written as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for one, content in entries:
            archive.addfile(one, io.BytesIO(content))
    return out.getvalue()


class EvilRegistry:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chalk-evil-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.mirror = f"{HOST}=http://127.0.0.1:{self.port}"
        self.process, self.pushed = None, 0

    def start(self):
        config = self.folder / "config.yml"
        config.write_text("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                          f"storage: {{filesystem: {{rootdirectory: {self.folder}/storage}}}}\n"
                          f"http: {{addr: '127.0.0.1:{self.port}', secret: loopback}}\n")
        self.process = subprocess.Popen([shutil.which("docker-registry"), "serve", str(config)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if self.ask("GET", "/v2/")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the registry of the tests does not start")

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def blob(self, name, raw):
        status, body, headers = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, body
        target = headers["location"].split("://", 1)[-1]
        target = target[target.index("/"):]
        target += ("&" if "?" in target else "?") + "digest=" + digest_of(raw)
        status, body, _ = self.ask("PUT", target, raw, {"Content-Type": "application/octet-stream"})
        assert status == 201, body
        return digest_of(raw)

    def stored(self, digest):
        """Where the registry keeps a blob."""
        word = digest.split(":")[1]
        return self.folder / "storage/docker/registry/v2/blobs/sha256" / word[:2] / word / "data"

    def push(self, *layers, diff_ids=None, config=None, compress=gzip.compress):
        """The name of a new image with these tars as its layers."""
        self.pushed += 1
        name = f"image{self.pushed}"
        packed = [compress(one) for one in layers]
        facts = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"], **(config or {})},
                 "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest_of(one) for one in layers]}}
        raw = json.dumps(facts).encode()
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": {"mediaType": CONFIG, "digest": self.blob(name, raw), "size": len(raw)},
                    "layers": [{"mediaType": LAYER, "digest": self.blob(name, one), "size": len(one)} for one in packed]}
        self.last = manifest
        status, body, _ = self.ask("PUT", f"/v2/{name}/manifests/latest", json.dumps(manifest), {"Content-Type": MANIFEST})
        assert status == 201, body
        return f"{HOST}/{name}:latest"

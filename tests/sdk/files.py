"""Files to and from a sandbox."""
import hashlib
import os
import pathlib
import tempfile

from chalkcompute._sandbox_fs import FilesystemError, SandboxFileSystemError
from world import Case


class Files(Case):
    def test_bytes_go_and_come_back(self):
        sandbox = self.sandbox()
        content = bytes(range(256)) * 20
        sandbox.fs.write_bytes("/srv/new/folder/file.bin", content, mode=0o640)
        self.assertEqual(sandbox.fs.read_bytes("/srv/new/folder/file.bin"), content)
        self.assertEqual(self.output(sandbox)("stat", "-c", "%a %s", "/srv/new/folder/file.bin"), "640 5120\n")
        sandbox.fs.write_bytes("/srv/new/folder/file.bin", b"")
        self.assertEqual(sandbox.fs.read_bytes("/srv/new/folder/file.bin"), b"")

    def test_a_large_file_is_streamed_both_ways(self):
        sandbox = self.sandbox(memory="512Mi")
        block = os.urandom(1 << 20)
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "source"
            with source.open("wb") as file:
                for _ in range(24):
                    file.write(block)
            sandbox.fs.upload_file(source, "/tmp/large")
            told = self.output(sandbox)("sha256sum", "/tmp/large").split()[0]
            self.assertEqual(told, hashlib.sha256(source.read_bytes()).hexdigest())
            sandbox.fs.download_file("/tmp/large", pathlib.Path(folder) / "back")
            self.assertEqual((pathlib.Path(folder) / "back").read_bytes(), source.read_bytes())

    def test_what_cannot_be_is_told_by_kind(self):
        sandbox = self.sandbox()
        for path, kind, number in (("/no/such/file", FilesystemError.NOT_FOUND, 2),
                                   ("/etc", FilesystemError.FAILED_PRECONDITION, 21)):
            with self.assertRaises(SandboxFileSystemError) as caught:
                sandbox.fs.read_bytes(path)
            self.assertEqual((caught.exception.error, caught.exception.errno), (kind, number))
            self.assertIn(path, str(caught.exception))
        with self.assertRaises(SandboxFileSystemError):
            sandbox.fs.write_bytes("/proc/version", b"x")

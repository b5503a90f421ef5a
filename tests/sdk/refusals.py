"""What is not done is refused at once and in words that say what to do."""
import time

import world
from chalkcompute import Container, Image, Sandbox, SandboxClient
from chalkcompute._container import ContainerError, ImageBuildError
from chalkcompute._gen.chalk.container.v1 import service_pb as container_wire
from chalkcompute._gen.chalk.sandbox.v2 import service_pb as wire
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from protobuf import Oneof
from world import Case


class Refusals(Case):
    def create(self, **spec):
        with SandboxClient.from_env() as client:
            made = client._stub.create_sandbox(wire.CreateSandboxRequest(source=Oneof(
                "spec", container_wire.ChalkContainerSpec(**{"image": world.IMAGE, **spec}))), headers=client._headers)
            client.get(made.sandbox.id).terminate()

    def refused(self, code, *words, **spec):
        with self.assertRaises(ConnectError) as caught:
            self.create(**spec)
        self.assertEqual(caught.exception.code, code, caught.exception.message)
        for word in words:
            self.assertIn(word, caught.exception.message)

    def test_a_gpu_is_refused_with_the_numbers(self):
        begin = time.monotonic()
        with self.assertRaises(ConnectError) as caught:
            Sandbox(image=world.IMAGE, gpu="A100").run()
        self.assertIn("no node pool offers a GPU: asked 1 x nvidia-a100, offered 0", caught.exception.message)
        with self.assertRaises(ContainerError) as caught:
            Container(image=world.IMAGE, gpu="2:nvidia-a100").run()
        self.assertIn("asked 2 x nvidia-a100, offered 0", str(caught.exception))
        self.assertLess(time.monotonic() - begin, 60, "nobody waits for what cannot come")

    def test_more_than_any_node_has_is_refused_with_the_numbers(self):
        self.refused(Code.INVALID_ARGUMENT, "no node is large enough", "cpu 500000m", "the most that a node has",
                     resources=container_wire.ResourceLimits(cpu="500"))

    def test_bad_names_and_amounts_say_what_is_expected(self):
        self.refused(Code.INVALID_ARGUMENT, "name: found \"Bad_Name\"", "lower case", name="Bad_Name")
        self.refused(Code.INVALID_ARGUMENT, "name: found", name="../../etc")
        self.refused(Code.INVALID_ARGUMENT, "resources.cpu: found \"-1\"",
                     resources=container_wire.ResourceLimits(cpu="-1"))
        self.refused(Code.INVALID_ARGUMENT, "resources.memory: found \"lots\"", "4Gi",
                     resources=container_wire.ResourceLimits(memory="lots"))
        self.refused(Code.INVALID_ARGUMENT, "env_vars", env_vars={f"V{i}": "x" for i in range(10_000)})

    def test_what_comes_later_is_refused_by_name(self):
        self.refused(Code.UNIMPLEMENTED, "network_policy", network_policy=container_wire.NetworkPolicy())
        self.refused(Code.UNIMPLEMENTED, "secret_refs", secret_refs=[container_wire.SecretRef()])

    def test_an_unknown_image_is_told(self):
        with self.assertRaises(ConnectError) as caught:
            Sandbox(image="no-such-image:1").run()
        self.assertIn("no-such-image:1", caught.exception.message)
        with self.assertRaises(ConnectError) as caught:
            Sandbox(image="Not//AnImage").run()
        self.assertEqual(caught.exception.code, Code.INVALID_ARGUMENT)

    def test_a_base_image_needs_no_build(self):
        container = self.container(image=Image.base(world.IMAGE))
        self.assertEqual(container.exec("echo", "yes").stdout, b"yes\n")

    def test_a_build_is_refused_with_what_to_do(self):
        with self.assertRaises(ImageBuildError) as caught:
            Container(image=Image.base(world.IMAGE).pip_install(["requests"])).run()
        self.assertIn("does not build images yet", str(caught.exception))
        self.assertIn("base image", str(caught.exception))

    def test_suspending_is_not_there(self):
        with SandboxClient.from_env() as client, self.assertRaises(ConnectError) as caught:
            client._stub.suspend_sandbox(wire.SuspendSandboxRequest(id="x"), headers=client._headers)
        self.assertEqual(caught.exception.code, Code.UNIMPLEMENTED)

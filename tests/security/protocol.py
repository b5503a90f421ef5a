"""A client of whatever services a server has: their descriptors come from the server, by reflection."""
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
TIMEOUT = 120


def reflection_file():
    """As much of reflection.proto as is needed to ask for the rest."""
    file = descriptor_pb2.FileDescriptorProto(name="own/reflection.proto", package="own", syntax="proto3")
    text, message, data = 9, 11, 12  # FieldDescriptorProto.Type

    def add(name, *fields):
        made = file.message_type.add(name=name)
        for field, number, kind, repeated, type_name in fields:
            made.field.add(name=field, number=number, type=kind, label=3 if repeated else 1, type_name=type_name)
    add("Ask", ("symbol", 4, text, False, None), ("list", 7, text, False, None))
    add("Files", ("file", 1, data, True, None))
    add("Service", ("name", 1, text, False, None))
    add("Services", ("service", 1, message, True, ".own.Service"))
    add("Answer", ("files", 4, message, False, ".own.Files"), ("services", 6, message, False, ".own.Services"))
    return file


class Api:
    """`services` maps the name of each service to its methods' descriptors."""

    def __init__(self, channel):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool()
        own = descriptor_pool.DescriptorPool()
        own.Add(reflection_file())
        self.ask, self.answer = (message_factory.GetMessageClass(own.FindMessageTypeByName("own." + name))
                                 for name in ("Ask", "Answer"))
        self.names = [one.name for one in self.reflect(list="*").services.service]
        files = {}
        for name in self.names:
            if name.startswith("grpc."):
                continue
            for raw in self.reflect(symbol=name).files.file:
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                files[file.name] = file
        self.load(files)
        self.services = {name: {method.name: method for method in self.pool.FindServiceByName(name).methods}
                         for name in self.names if not name.startswith("grpc.")}

    def reflect(self, **asked):
        call = self.channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo",
                                          request_serializer=self.ask.SerializeToString,
                                          response_deserializer=self.answer.FromString)
        return next(call(iter([self.ask(**asked)]), timeout=TIMEOUT, wait_for_ready=True))

    def load(self, files):
        """Adds files behind those that they need."""
        done = set()

        def add(name):
            if name in done:
                return
            done.add(name)
            for needed in files[name].dependency:
                add(needed)
            self.pool.Add(files[name])
        for name in sorted(files):
            add(name)

    def request(self, service, method, value):
        kind = message_factory.GetMessageClass(self.services[service][method].input_type)
        return json_format.ParseDict(value, kind()) if isinstance(value, dict) else value

    def call(self, service, method, requests, metadata=(), timeout=TIMEOUT):
        """A list of all answers; grpc.RpcError when the call fails. Requests are dictionaries or messages."""
        about = self.services[service][method]
        requests = [self.request(service, method, one) for one in requests]
        answer = message_factory.GetMessageClass(about.output_type)
        kind = ("stream" if about.client_streaming else "unary") + "_" + (
            "stream" if about.server_streaming else "unary")
        call = getattr(self.channel, kind)(f"/{service}/{method}",
                                           request_serializer=lambda message: message.SerializeToString(),
                                           response_deserializer=answer.FromString)
        said = call(iter(requests) if about.client_streaming else requests[0], metadata=list(metadata), timeout=timeout)
        return list(said) if about.server_streaming else [said]


def code_of(call):
    """The status of a call that is made here, and what it said: (StatusCode, answers or details)."""
    try:
        return grpc.StatusCode.OK, call()
    except grpc.RpcError as error:
        return error.code(), error.details()

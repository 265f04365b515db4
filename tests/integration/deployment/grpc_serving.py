"""The gRPC side of the image under test: grpcio, and the Open Inference Protocol as tritonclient has it compiled."""

from __future__ import annotations

import os
import time
from concurrent import futures
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc


class Service(rpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Tells its variable VERSION, and returns what it is given."""

    def ServerLive(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Health."""
        return pb.ServerLiveResponse(live=True)

    def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Which container answers."""
        time.sleep(float(os.environ.get("DELAY", "0")))
        return pb.ServerMetadataResponse(name="under test", version=os.environ.get("VERSION", ""))

    def ModelInfer(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Return the inputs as outputs."""
        response = pb.ModelInferResponse(model_name=request.model_name)
        for given in request.inputs:
            response.outputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
        response.raw_output_contents.extend(request.raw_input_contents)
        return response


def start(port: int) -> Any:
    """Serve on *port* until the server is stopped."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    rpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    return server

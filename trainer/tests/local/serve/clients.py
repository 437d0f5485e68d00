"""Talks to a server with tritonclient, in every form that a tensor may have.

Arguments: the addresses of HTTP and gRPC, and a JSON file with the columns of some rows and what `trainyard predict` says of them.
Prints a line for each form that was answered as it should be.
"""

import asyncio
import json
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

address, grpc_address, cases = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))


def tensors(library, case, binary, dtype):
    found = []
    for name, values in case["columns"].items():
        if isinstance(values[0], str):
            array, datatype = np.array(values, dtype=object), "BYTES"
        else:
            array, datatype = np.array(values, dtype=dtype), {"f4": "FP32", "f8": "FP64"}[dtype]
        tensor = library.InferInput(name, list(array.shape), datatype)
        is_binary = binary if binary is not None else len(found) % 2 == 0
        how = {"binary_data": is_binary} if library in (triton, triton_aio) else {}
        tensor.set_data_from_numpy(array, **how)
        found.append(tensor)
    return found


def check(case, result):
    found = result.as_numpy("prediction")
    expected = case["prediction"]
    if isinstance(expected[0], str):
        assert [text.decode() if isinstance(text, bytes) else text for text in found] == expected, found
        probabilities = result.as_numpy("probabilities")
        assert probabilities.dtype == np.float32
        # Equal to the bit: the decimals of JSON stand for one number of single precision each.
        assert (probabilities == np.array(case["probabilities"], dtype=np.float32)).all(), probabilities
    else:
        assert list(found) == expected, found


def outputs(library, case, binary):
    names = ["prediction", "probabilities"] if case["probabilities"] else ["prediction"]
    how = {"binary_data": binary} if library in (triton, triton_aio) else {}
    return [library.InferRequestedOutput(name, **how) for name in names]


def http():
    client = triton.InferenceServerClient(address, concurrency=2)
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata()["name"] == "trainyard"
    for case in cases:
        model = case["model"]
        assert client.is_model_ready(model) and client.is_model_ready(model, "1")
        metadata = client.get_model_metadata(model)
        assert [tensor["name"] for tensor in metadata["inputs"]] == case["names"]
        assert client.get_model_config(model)["max_batch_size"] > 0
        for binary in [True, False, None]:
            given = tensors(triton, case, binary, case["dtype"])
            check(case, client.infer(model, given))
            for answered in [True, False]:
                wanted = outputs(triton, case, answered)
                result = client.infer(model, given, outputs=wanted, request_id="42", model_version="1")
                check(case, result)
                assert result.get_response()["id"] == "42" and result.get_response()["model_version"] == "1"
                for how in ["gzip", "deflate"]:
                    check(case, client.infer(model, given, outputs=wanted, request_compression_algorithm=how))
                    check(case, client.infer(model, given, outputs=wanted, response_compression_algorithm=how))
            print("http", model, {True: "binary", False: "json", None: "mixed"}[binary])
        if case["probabilities"]:
            count = len(case["probabilities"][0])
            wanted = [triton.InferRequestedOutput("probabilities", class_count=count)]
            classes = client.infer(model, given, outputs=wanted).as_numpy("probabilities")
            assert classes.shape == (len(case["prediction"]), count)
            for row, expected in zip(classes, case["prediction"]):
                assert row[0].decode().split(":")[2] == expected, row
            print("http", model, "classification")
        statistics = client.get_inference_statistics(model)["model_stats"][0]
        assert statistics["inference_stats"]["success"]["count"] > 0
        refused(lambda: client.infer(model, given[1:]), "missing")
        refused(lambda: client.infer(model, given, model_version="7"), "Request for unknown model")
        refused(lambda: client.infer("none", given), "Request for unknown model")
        wanted = [triton.InferRequestedOutput("none")]
        refused(lambda: client.infer(model, given, outputs=wanted), "none of the model's")
        refused(lambda: client.infer(model, given, sequence_id=7), "state")
        print("http", model, "refusals")
    pending = [client.async_infer(case["model"], tensors(triton, case, True, case["dtype"])) for case in cases * 8]
    for case, answer in zip(cases * 8, pending):
        check(case, answer.get_result())
    print("http async_infer")


def refused(call, part):
    try:
        call()
    except InferenceServerException as error:
        assert part in str(error), error
    else:
        raise AssertionError(f"it was not refused: {part}")


async def http_aio():
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        for case in cases:
            for binary in [True, False, None]:
                given = tensors(triton_aio, case, binary, case["dtype"])
                answers = [client.infer(case["model"], given) for _ in range(16)]
                for result in await asyncio.gather(*answers):
                    check(case, result)
            print("http.aio", case["model"])


def over_grpc():
    client = triton_grpc.InferenceServerClient(grpc_address)
    assert client.is_server_live() and client.is_server_ready()
    # grpc.health.v1: a request for all services, and an answer whose field 1 is SERVING.
    health = grpc.insecure_channel(grpc_address).unary_unary("/grpc.health.v1.Health/Check")
    assert health(b"") == b"\x08\x01"
    assert client.get_server_metadata().name == "trainyard"
    for case in cases:
        model = case["model"]
        assert client.is_model_ready(model) and client.is_model_ready(model, "1")
        metadata = client.get_model_metadata(model)
        assert [tensor.name for tensor in metadata.inputs] == case["names"]
        config = client.get_model_config(model).config
        assert config.max_batch_size > 0 and len(config.input) == len(case["names"])
        given = tensors(triton_grpc, case, None, case["dtype"])
        check(case, client.infer(model, given))
        for compression in [None, "gzip", "deflate"]:
            wanted = outputs(triton_grpc, case, True)
            how = {"outputs": wanted, "request_id": "42", "model_version": "1", "compression_algorithm": compression}
            result = client.infer(model, given, **how)
            check(case, result)
            assert result.get_response().id == "42" and result.get_response().model_version == "1"
        if case["probabilities"]:
            count = len(case["probabilities"][0])
            wanted = [triton_grpc.InferRequestedOutput("probabilities", class_count=count)]
            classes = client.infer(model, given, outputs=wanted).as_numpy("probabilities")
            for row, expected in zip(classes, case["prediction"]):
                assert row[0].decode().split(":")[2] == expected, row
        statistics = client.get_inference_statistics(model).model_stats[0]
        assert statistics.inference_stats.success.count > 0
        refused(lambda: client.infer(model, given[1:]), "missing")
        refused(lambda: client.infer("none", given), "Request for unknown model")
        refused(lambda: client.infer(model, given, sequence_id=7), "state")
        print("grpc", model)
        typed_contents(case)


def typed_contents(case):
    """What tritonclient never sends: elements in fields of their type."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(grpc_address))
    request = service_pb2.ModelInferRequest(model_name=case["model"])
    for name, values in case["columns"].items():
        tensor = request.inputs.add(name=name, shape=[len(values)])
        if isinstance(values[0], str):
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.extend(value.encode() for value in values)
        else:
            tensor.datatype = "FP64"
            tensor.contents.fp64_contents.extend(values)
    answer = stub.ModelInfer(request)
    assert [output.name for output in answer.outputs][0] == "prediction"
    assert len(answer.raw_output_contents) == len(answer.outputs)
    request.raw_input_contents.append(b"")
    try:
        stub.ModelInfer(request)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    else:
        raise AssertionError("contents of both kinds")
    print("grpc contents", case["model"])


async def over_grpc_aio():
    client = triton_grpc_aio.InferenceServerClient(grpc_address)
    assert await client.is_server_ready()
    for case in cases:
        given = tensors(triton_grpc_aio, case, None, case["dtype"])
        answers = [client.infer(case["model"], given) for _ in range(16)]
        for result in await asyncio.gather(*answers):
            check(case, result)
        print("grpc.aio", case["model"])
    await client.close()


http()
asyncio.run(http_aio())
over_grpc()
asyncio.run(over_grpc_aio())

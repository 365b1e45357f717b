"""A service that adds up invoices, exactly: POST {"tax": "19", "items": [{"price": "9.99", "quantity": 3}]} answers with
net, tax and gross, rounded to cents as accountants do (half to even), never through binary fractions."""

import json
from decimal import Decimal, InvalidOperation, ROUND_HALF_EVEN

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)
from wit_world.imports.streams import StreamError_Closed

LARGEST = 1 << 20


class Refused(Exception):
    """What is wrong with a request, and its status."""

    def __init__(self, status: int, problem: str):
        super().__init__(problem)
        self.status = status


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        try:
            if not isinstance(request.method(), Method_Post):
                raise Refused(405, "POST an invoice")
            status, answer = 200, total(json.loads(read(request)))
        except Refused as refused:
            status, answer = refused.status, {"error": str(refused)}
        except (ValueError, TypeError, KeyError, InvalidOperation) as error:
            status, answer = 400, {"error": f"no invoice: {error}"}
        respond(response_out, status, json.dumps(answer).encode())


def total(invoice: dict) -> dict:
    cents = Decimal("0.01")
    lines = [Decimal(item["price"]) * int(item["quantity"]) for item in invoice["items"]]
    net = sum(lines, Decimal(0)).quantize(cents, ROUND_HALF_EVEN)
    tax = (net * Decimal(invoice["tax"]) / 100).quantize(cents, ROUND_HALF_EVEN)
    return {"net": str(net), "tax": str(tax), "gross": str(net + tax)}


def read(request: IncomingRequest) -> bytes:
    body = bytearray()
    with request.consume() as incoming, incoming.stream() as stream:
        while True:
            try:
                body += stream.blocking_read(65536)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return bytes(body)
                raise
            if len(body) > LARGEST:
                raise Refused(413, f"at most {LARGEST} bytes")


def respond(out: ResponseOutparam, status: int, text: bytes) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    with body.write() as stream:
        for start in range(0, len(text), 4096):
            stream.blocking_write_and_flush(text[start : start + 4096])
    OutgoingBody.finish(body, None)

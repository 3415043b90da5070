"""A client that does nothing but hold one gRPC stream open: what a resident process over grpc.aio costs at least.

Called with an address and the folder of an operator's credentials. No messages are parsed: not even protobuf is loaded.
"""

import asyncio
import sys
from pathlib import Path

import grpc
import grpc.aio

_SERVER_NAME = "kernroll-controller"


async def main() -> None:
    """Watch the controller's health, which changes never."""
    address, folder = sys.argv[1], Path(sys.argv[2])
    names = ("ca.pem", "operator-key.pem", "operator.pem")
    credentials = grpc.ssl_channel_credentials(*[(folder / name).read_bytes() for name in names])
    options = (("grpc.ssl_target_name_override", _SERVER_NAME),)
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        async for _ in watch(b""):
            print("watching", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

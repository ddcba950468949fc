"""python3-websockets as server and as client; see real_test.go."""
import asyncio
import json
import ssl
import sys

import websockets


async def serve():
    async def echo(ws, path=None):
        async for m in ws:
            if m == "close 4001":
                await ws.close(4001, "as you wish")
                return
            await ws.send(m)

    async with websockets.serve(echo, "127.0.0.1", 0, subprotocols=["demo"], max_size=1 << 22) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def talk(url):
    context = None
    if url.startswith("wss"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    seen = {}
    async with websockets.connect(url, ssl=context, subprotocols=["demo"], max_size=1 << 22) as ws:
        seen["subprotocol"] = ws.subprotocol
        await ws.send("text")
        seen["text"] = await ws.recv()
        big = bytes(1 << 20)
        await ws.send(big)
        seen["big"] = await ws.recv() == big
        await (await ws.ping())
        seen["pong"] = True
        await ws.send("close 4001")
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            seen["code"] = e.rcvd.code
            seen["reason"] = e.rcvd.reason
    print(json.dumps(seen), flush=True)


asyncio.run(serve() if sys.argv[1] == "server" else talk(sys.argv[2]))

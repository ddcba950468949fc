// npm ws as server and as client. "server": listens, prints the port, echoes.
// "client URL": sends text, binary, a large message and a ping, prints what it saw.
import { WebSocket, WebSocketServer } from "ws";

if (process.argv[2] === "server") {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", s => s.on("message", (p, binary) => {
    if (String(p) === "close 4001") s.close(4001, "as you wish");
    else s.send(p, { binary });
  }));
} else {
  const s = new WebSocket(process.argv[3], { rejectUnauthorized: false });
  const big = Buffer.alloc(1 << 20, "x");
  const seen = { messages: 0, pong: false, big: false };
  s.on("open", () => { s.send("text"); s.send(Buffer.from([1, 2, 3])); s.send(big); s.ping("p"); });
  s.on("pong", () => { seen.pong = true; });
  s.on("message", p => {
    seen.messages++;
    seen.big = seen.big || p.length === big.length && p.equals(big);
    if (seen.messages === 3) s.send("close 4001");
  });
  s.on("error", e => { seen.error = String(e); });
  s.on("close", (code, reason) => { seen.code = code; seen.reason = String(reason); console.log(JSON.stringify(seen)); });
}

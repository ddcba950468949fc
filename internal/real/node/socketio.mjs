// socket.io: "server" listens and echoes; "client URL" starts with long polling,
// upgrades to WebSocket and prints what it saw; "poll ORIGIN" speaks the polling
// transport over HTTP/2 and opens the WebSocket as a stream of the same session.
import { createServer } from "node:http";
import http2 from "node:http2";
import { Server } from "socket.io";
import { io } from "socket.io-client";

const [, , mode, url] = process.argv;
if (mode === "server") {
  const http = createServer();
  const server = new Server(http);
  server.on("connection", s => s.on("echo", (v, ack) => ack(v)));
  http.listen(0, "127.0.0.1", () => console.log(http.address().port));
} else if (mode === "client") {
  const s = io(url, { rejectUnauthorized: false, reconnection: false });
  const seen = { transports: [] };
  let connected = false;
  const go = () => {
    if (connected && seen.transports.length === 2) s.emit("echo", { n: 42 }, v => { seen.echo = v; s.close(); });
  };
  s.io.on("open", () => {
    seen.transports.push(s.io.engine.transport.name);
    s.io.engine.on("upgrade", t => { seen.transports.push(t.name); go(); });
  });
  s.on("connect", () => { connected = true; go(); });
  s.on("connect_error", e => { seen.error = String(e); console.log(JSON.stringify(seen)); process.exit(1); });
  s.on("disconnect", () => { console.log(JSON.stringify(seen)); });
} else {
  const session = http2.connect(url, { rejectUnauthorized: false });
  const seen = {};
  const call = (headers, body) => new Promise((done, fail) => {
    const r = session.request(headers);
    let out = "";
    r.setEncoding("utf8").on("data", p => { out += p; }).on("end", () => done(out)).on("error", fail);
    r.end(body);
  });
  session.once("remoteSettings", async () => {
    const open = await call({ ":path": "/socket.io/?EIO=4&transport=polling" });
    const sid = JSON.parse(open.slice(1)).sid;
    seen.polled = Boolean(sid);
    const at = "/socket.io/?EIO=4&sid=" + sid;
    seen.posted = await call({ ":path": at + "&transport=polling", ":method": "POST", "content-type": "text/plain" }, "40");
    seen.joined = (await call({ ":path": at + "&transport=polling" })).startsWith("40");
    const req = session.request({ ":method": "CONNECT", ":protocol": "websocket", ":path": at + "&transport=websocket", "sec-websocket-version": "13" }, { endStream: false });
    const frame = s => Buffer.concat([Buffer.from([0x81, 0x80 | s.length, 0, 0, 0, 0]), Buffer.from(s)]);
    req.on("response", h => { seen.status = h[":status"]; req.write(frame("2probe")); });
    req.on("data", p => {
      const text = p.subarray(2).toString();
      if (text.startsWith("3probe")) { seen.probed = true; req.write(frame("5")); req.write(frame('420["echo","hi"]')); }
      if (text.includes('430["hi"]')) { seen.echo = true; req.close(8); }
    });
    req.on("close", () => { console.log(JSON.stringify(seen)); session.destroy(); });
  });
}

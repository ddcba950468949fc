// Node's http2 client: extended CONNECT and an ordinary request on one session.
// argv[2] is the https origin.
import http2 from "node:http2";

const session = http2.connect(process.argv[2], { rejectUnauthorized: false });
const seen = {};
session.once("remoteSettings", settings => {
  seen.connectProtocol = settings.enableConnectProtocol;
  const get = session.request({ ":path": "/version" });
  let body = "";
  get.setEncoding("utf8").on("data", p => { body += p; }).on("end", () => { seen.get = body; });
  const req = session.request({
    ":method": "CONNECT", ":protocol": "websocket", ":path": "/echo?quiet", "sec-websocket-version": "13",
  }, { endStream: false });
  const chunks = [];
  req.on("response", h => {
    seen.status = h[":status"];
    req.write(Buffer.concat([Buffer.from([0x81, 0x85, 0, 0, 0, 0]), Buffer.from("hello")]));
  });
  req.on("data", p => {
    chunks.push(p);
    const all = Buffer.concat(chunks);
    if (seen.echo === undefined && all.length >= 7) {
      seen.echo = all.subarray(2, 7).toString();
      req.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]));
      chunks.length = 0;
    } else if (seen.echo !== undefined && all.length >= 4) {
      seen.close = all[0] === 0x88 ? all.readUInt16BE(2) : -1;
    }
  });
  req.on("end", () => req.end());
  req.on("error", e => { seen.error = String(e); });
  req.on("close", () => {
    seen.code = req.rstCode;
    console.log(JSON.stringify(seen));
    session.close();
  });
});

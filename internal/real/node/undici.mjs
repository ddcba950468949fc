// undici's WebSocket over HTTP/2 (RFC 8441): argv[2] is the wss URL. undici
// sends a key of its own and insists on the matching Sec-WebSocket-Accept.
import { Agent, WebSocket } from "undici";

const agent = new Agent({ allowH2: true, connect: { rejectUnauthorized: false } });
const s = new WebSocket(process.argv[2], { dispatcher: agent });
const seen = { messages: [] };
s.addEventListener("open", () => s.send("from undici"));
s.addEventListener("message", e => {
  seen.messages.push(e.data);
  if (seen.messages.length === 2) s.close(1000, "done");
});
s.addEventListener("error", e => { seen.error = String(e.error || e.message || e.type); });
s.addEventListener("close", e => {
  seen.code = e.code;
  console.log(JSON.stringify(seen));
  process.exit(0);
});

// Drives Chromium against the gateway: argv[2] is JSON {url, spki, netlog,
// profile, chromium}. Prints one JSON object with what the page saw and what
// Chromium's own net log says of the connections.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const opt = JSON.parse(process.argv[2]);
const browser = await chromium.launchPersistentContext(opt.profile, {
  executablePath: opt.chromium,
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--ignore-certificate-errors-spki-list=" + opt.spki,
    "--log-net-log=" + opt.netlog,
  ],
});
const result = {};
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30000);
  await page.goto(opt.url);
  result.page = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  await page.waitForFunction(() => [...document.querySelectorAll("section output")].every(o => o.value.startsWith("open over")));
  result.states = await page.evaluate(() => [...document.querySelectorAll("section output")].map(o => o.value));
  Object.assign(result, await page.evaluate(stories));
} finally {
  await browser.close();
}
result.sockets = sockets(JSON.parse(readFileSync(opt.netlog, "utf8")));
console.log(JSON.stringify(result));

// stories runs in the page.
async function stories() {
  const base = location.origin.replace(/^http/, "ws");
  const life = (path, protocols, talk) => new Promise(done => {
    const s = new WebSocket(base + path, protocols || []);
    const seen = { opened: false, messages: [] };
    s.binaryType = "arraybuffer";
    s.onopen = () => { seen.opened = true; seen.protocol = s.protocol; seen.extensions = s.extensions; talk && talk(s); };
    s.onmessage = e => { seen.messages.push(e.data); talk && talk.message && talk.message(s, e.data); };
    s.onclose = e => { seen.code = e.code; seen.clean = e.wasClean; seen.reason = e.reason; done(seen); };
  });
  const out = {};
  const twenty = await Promise.all([...Array(20).keys()].map(i => {
    const talk = s => s.send("hello " + i);
    talk.message = s => s.close(1000);
    return life("/echo?quiet", null, talk);
  }));
  out.twenty = twenty.map((s, i) => [s.messages[0] === "hello " + i, s.code, s.clean]);

  const big = "0123456789abcdef".repeat(65536);
  const bigTalk = s => s.send(big);
  bigTalk.message = s => s.close(1000);
  const b = await life("/echo?quiet", null, bigTalk);
  out.big = { same: b.messages[0] === big, code: b.code };

  const bin = crypto.getRandomValues(new Uint8Array(65536));
  const binTalk = s => s.send(bin);
  binTalk.message = s => s.close(1000);
  const r = await life("/echo?quiet", null, binTalk);
  const back = new Uint8Array(r.messages[0]);
  out.binary = back.length === bin.length && back.every((v, i) => v === bin[i]);

  const sub = await life("/echo?quiet", ["other", "demo"], s => s.close(1000));
  out.subprotocol = sub.protocol;
  out.extensions = sub.extensions;

  const closed = await life("/echo?quiet", null, s => s.send("close 4001"));
  out.serverClose = { code: closed.code, clean: closed.clean, reason: closed.reason };

  const refused = await life("/refuse");
  out.refused = { opened: refused.opened, code: refused.code };
  return out;
}

// sockets counts the WebSocket streams of each HTTP/2 session in a net log.
function sockets(log) {
  const types = log.constants.logEventTypes;
  const sessions = {};
  let upgrades = 0;
  for (const e of log.events) {
    const headers = e.params && e.params.headers;
    if (e.type === types.HTTP2_SESSION_SEND_HEADERS && headers && headers.includes(":protocol: websocket")) {
      sessions[e.source.id] = (sessions[e.source.id] || 0) + 1;
    }
    if (e.type === types.HTTP_TRANSACTION_SEND_REQUEST_HEADERS && JSON.stringify(e.params || {}).includes("Upgrade: websocket")) upgrades++;
  }
  return { sessions: Object.values(sessions), upgrades };
}

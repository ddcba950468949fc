// Drives Chromium against the gateway: argv[2] is JSON {url, spki, netlog,
// profile, chromium, args, loads}. Prints one JSON object with what the page saw
// and what Chromium's own net log says of the connections.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const opt = JSON.parse(process.argv[2]);
const browser = await chromium.launchPersistentContext(opt.profile, {
  executablePath: opt.chromium,
  headless: true,
  args: [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--ignore-certificate-errors-spki-list=" + opt.spki,
    "--log-net-log=" + opt.netlog, ...opt.args,
  ],
});
const result = {};
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30000);
  result.pages = [];
  for (let i = 0; i < opt.loads; i++) {
    await page.goto(opt.url);
    await page.waitForFunction(() => [...document.querySelectorAll("section output")].every(o => o.value.startsWith("open over")));
    result.pages.push(await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol));
  }
  result.shown = await page.evaluate(() => document.getElementById("page").value);
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

// sockets counts the WebSocket streams of each HTTP/2 and HTTP/3 session in a net
// log, and the QUIC connections that were tried for the page's host.
function sockets(log) {
  const types = log.constants.logEventTypes;
  const sent = { [types.HTTP2_SESSION_SEND_HEADERS]: "h2", [types.HTTP3_HEADERS_SENT]: "h3" };
  const sessions = { h2: {}, h3: {} };
  const refused = { h2: 0, h3: 0 };
  const tried = new Set();
  let upgrades = 0;
  for (const e of log.events) {
    const params = e.params || {}, headers = params.headers;
    if (sent[e.type] && headers && headers.includes(":protocol: websocket")) {
      const of = sessions[sent[e.type]];
      of[e.source.id] = (of[e.source.id] || 0) + 1;
    }
    if (e.type === types.HTTP3_HEADERS_DECODED && headers && headers.includes(":status: 403")) refused.h3++;
    if (e.type === types.HTTP2_SESSION_RECV_HEADERS && headers && headers.includes(":status: 403")) refused.h2++;
    if (e.type === types.QUIC_SESSION && params.host === new URL(opt.url).hostname) tried.add(e.source.id);
    if (e.type === types.HTTP_TRANSACTION_SEND_REQUEST_HEADERS && JSON.stringify(params).includes("Upgrade: websocket")) upgrades++;
  }
  return { h2: Object.values(sessions.h2), h3: Object.values(sessions.h3), refused, upgrades, quic: tried.size };
}

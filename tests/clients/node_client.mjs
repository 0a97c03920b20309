// node_client.mjs BASE SCRIPT LIBRARY: Node's fetch and http, or undici's request, stream and pipelined requests.
// A body is sent whole, or as a stream, which goes out in chunks.
import fs from "node:fs";
import http from "node:http";
import { Readable, Writable } from "node:stream";
import { createRequire } from "node:module";

const [base, scriptFile, library] = process.argv.slice(2);
const CHUNK = 1000;
const steps = fs.readFileSync(scriptFile, "utf8").trim().split("\n").map((line) => {
  const [method, path, form, file] = line.split(" ");
  return { method, path, streamed: form === "stream", body: form === "none" ? undefined : fs.readFileSync(file) };
});

function* pieces(body) {
  for (let i = 0; i < body.length; i += CHUNK) yield body.subarray(i, i + CHUNK);
}
const headersOf = (step) => (step.body ? { "Content-Type": "application/json" } : {});
const bodyOf = (step) => (step.streamed ? Readable.from(pieces(step.body)) : step.body);
const show = (status, body) => console.log(`${status} ${Buffer.from(body).toString("base64")}`);

async function byFetch() {
  for (const step of steps) {
    const body = step.streamed ? Readable.toWeb(bodyOf(step)) : step.body;
    const reply = await fetch(base + step.path, { method: step.method, headers: headersOf(step), body, duplex: "half" });
    show(reply.status, await reply.arrayBuffer());
  }
}

async function byHttp() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (const step of steps) {
    await new Promise((resolve, reject) => {
      const headers = { ...headersOf(step), ...(step.streamed || !step.body ? {} : { "Content-Length": step.body.length }) };
      const request = http.request(base + step.path, { method: step.method, headers, agent }, async (reply) => {
        const parts = [];
        for await (const part of reply) parts.push(part);
        show(reply.statusCode, Buffer.concat(parts));
        resolve();
      });
      request.on("error", reject);
      if (step.body) bodyOf(step.streamed ? step : { ...step, streamed: true }).pipe(request);
      else request.end();
    });
  }
  agent.destroy();
}

function undici() {
  return createRequire(`${process.env.NODE_TOOLS}/`)("undici");
}

async function byRequest(pipelining) {
  const client = new (undici().Client)(base, { pipelining });
  const send = async (step) => {
    const reply = await client.request({ method: step.method, path: step.path, headers: headersOf(step), body: bodyOf(step) });
    return [reply.statusCode, await reply.body.arrayBuffer()];
  };
  if (pipelining > 1) for (const [status, body] of await Promise.all(steps.map(send))) show(status, body);
  else for (const step of steps) show(...(await send(step)));
  await client.close();
}

async function byStream() {
  const client = new (undici().Client)(base);
  for (const step of steps) {
    const parts = [];
    let status;
    await client.stream({ method: step.method, path: step.path, headers: headersOf(step), body: bodyOf(step) }, (reply) => {
      status = reply.statusCode;
      return new Writable({ write(part, encoding, done) { parts.push(part); done(); } });
    });
    show(status, Buffer.concat(parts));
  }
  await client.close();
}

const libraries = {
  fetch: byFetch,
  http: byHttp,
  "undici request": () => byRequest(1),
  "undici pipelining": () => byRequest(10),
  "undici stream": byStream,
};
await libraries[library]();

// The same model behind a plain HTTP server around ONNX Runtime: the peer of tests/bench/server.py.
//
//   node peer_server.mjs TOOLS DIRECTORY PROCESSES [cached]
//
// PROCESSES processes with a session of one thread each share a port, which is printed as JSON. DIRECTORY holds the
// graphs of peer_export.py for one T and C. A request is what `POST /score` takes, history and candidates as columns.
// With `cached`, what the encoder puts out is kept in a map by user_id (the histories are not even compared).
import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';

const [tools, directory, processes, cached] = process.argv.slice(2);

async function work() {
  const ort = createRequire(path.resolve(tools, 'package.json'))('onnxruntime-node');
  const options = {
    intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all', logSeverityLevel: 3,
  };
  const open = (name) => ort.InferenceSession.create(path.join(directory, `${name}.onnx`), options);
  const [encoder, scorer, best] = cached
    ? [await open('encoder'), await open('scorer'), null] : [null, null, await open('best')];
  const states = new Map();
  const rows = (values) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);

  async function stateOf(id, history) {
    let state = states.get(id);
    if (state === undefined) {
      state = await encoder.run({ items: rows(history.item), categories: rows(history.category) });
      states.set(id, state);
    }
    return state;
  }

  async function score({ user_id: id, user, history, candidates }) {
    const common = {
      user: rows([user.user]), candidate_items: rows(candidates.item), candidate_categories: rows(candidates.category),
    };
    if (cached) {
      return (await scorer.run({ ...common, ...await stateOf(id, history) })).scores.data;
    }
    return (await best.run({ ...common, items: rows(history.item), categories: rows(history.category) })).scores.data;
  }

  async function answer(body, response) {
    const request = JSON.parse(body);
    const scores = await score(request);
    const results = Array.from(scores, (value, index) => ({ index, item: request.candidates.item[index], score: value }));
    results.sort((a, b) => b.score - a.score || a.index - b.index);
    const text = JSON.stringify({ results });
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
    response.end(text);
  }

  const server = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => answer(Buffer.concat(parts).toString(), response).catch((error) => {
      response.writeHead(500, { 'Content-Length': 0 });
      response.end();
      console.error(error);
    }));
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 }, () => process.send(server.address().port));
}

if (cluster.isPrimary) {
  let ready = 0;
  for (let i = 0; i < Number(processes); i++) {
    cluster.fork().on('message', (port) => {
      ready += 1;
      if (ready === Number(processes)) {
        console.log(JSON.stringify(port));
      }
    });
  }
} else {
  await work();
}

// ONNX Runtime as a peer of tests/bench/peers.py: one thread, every graph that it is given.
//
//   node peer_onnx.mjs TOOLS DIRECTORY
//
// TOOLS holds node_modules; DIRECTORY holds NAME.onnx and feeds.json. A line "time NAME CALLS" on standard input is
// answered with the seconds of CALLS calls, one after another, as a JSON list; "scores NAME" with the scores. `scorer`
// is fed with what `encoder` puts out, computed once: a user state that is kept. `nothing` is a graph that hands one of
// its inputs on: what a call from JavaScript costs by itself.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

const [tools, directory] = process.argv.slice(2);
const ort = createRequire(path.resolve(tools, 'package.json'))('onnxruntime-node');
const feeds = JSON.parse(readFileSync(path.join(directory, 'feeds.json'), 'utf8'));
const options = {
  intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all',
  enableCpuMemArena: true, enableMemPattern: true, logSeverityLevel: 3,
};

function tensor({ values, shape }) {
  return new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape);
}

const graphs = {};
for (const [name, inputs] of Object.entries(feeds)) {
  const session = await ort.InferenceSession.create(path.join(directory, `${name}.onnx`), options);
  const given = Object.fromEntries(Object.entries(inputs).map(([key, value]) => [key, tensor(value)]));
  graphs[name] = { session, given };
}
if (graphs.encoder && graphs.scorer) {
  Object.assign(graphs.scorer.given, await graphs.encoder.session.run(graphs.encoder.given));
}

async function answer(what, name, calls) {
  const { session, given } = graphs[name];
  if (what === 'scores') {
    const { scores } = await session.run(given);
    return Array.from(scores.data);
  }
  const seconds = [];
  for (let i = 0; i < Number(calls); i++) {
    const start = process.hrtime.bigint();
    await session.run(given);
    seconds.push(Number(process.hrtime.bigint() - start) / 1e9);
  }
  return seconds;
}

console.log(JSON.stringify(`onnxruntime-node ${ort.env.versions.node}`));
for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(...line.split(' '))));
}

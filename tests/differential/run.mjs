// Real, unmodified clients read hostile answers through `sekuire-gateway`:
//
//     client program -> sekuire-gateway -> upstream of this file
//
//   node run.mjs --live N -- PROGRAM ARGUMENT...
//
// The program reads streams.json, asks for every answer with every client that it
// drives, and prints what each saw. No client may see a tool but `safe` through the
// gateway. As a control the same client asks the upstream itself: N pairs of client
// and hostile answer at least must show the forbidden tool there, or the run fails.
//
//   SEKUIRE_GATEWAY   path of the gateway binary (required)
//   SEKUIRE_ONLY=TEXT asks only for the answers whose name contains TEXT
//
// What the program meets:
//   DIRECT, GOVERNED  origins of the upstream and of the gateway
//   each answer       is chosen by the model of the request, `NUMBER-CUT`: the number
//                     of the case in streams.json, and the size of the pieces in which
//                     its body is sent (0: whole)
//   stdout            a line per client, case, way and cut:
//                     {"client","case","way":"direct"|"governed","cut","seen":[NAME...],"error"}

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

import { cases, FILE, text } from './streams.mjs';

const RUN_TIMEOUT_MS = 170_000;
const ALLOWED = new Set(['safe']);
const POLICY = `project:
  name: differential
  version: 1.0.0
agent:
  name: Differential
  system_prompt: ./system_prompt.md
  tools: ./tools.json
  llm:
    provider: openai
    model: gpt-4o-mini
    api_key_env: OPENAI_API_KEY
  toolsets:
    allowed_tools:
      - name: safe
permissions:
  network:
    enabled: true
    require_tls: false
    allowed_domains: [127.0.0.1]
`;

let passed = 0;
const failed = [];
const check = (name, problem) => {
  if (!problem) passed += 1;
  else {
    failed.push(name);
    console.log(`FAIL  ${name}\n      ${problem}`);
  }
};

// ---------------------------------------------------------------- upstream

// Sends a body exactly, each piece as a chunk of its own.
async function startUpstream() {
  const server = createServer((request, reply) => {
    const read = [];
    request.on('data', (data) => read.push(data));
    request.on('end', () => {
      const origin = `http://127.0.0.1:${server.address().port}`;
      // A redirect that was followed, as GET without a body too, leads to the same answer.
      const [, followed] = /^\/followed\/([0-9]+-[0-9]+)$/.exec(request.url) ?? [];
      let model = followed;
      try {
        model ??= JSON.parse(Buffer.concat(read)).model;
      } catch {
        return reply.writeHead(400).end();
      }
      const [number, cut] = String(model).split('-').map(Number);
      const answer = cases[number];
      if (!answer) return reply.writeHead(404).end();
      const headers = { ...answer.headers };
      if (headers.location) headers.location = `${origin}/followed/${model}`;
      reply.on('error', () => {});
      reply.socket.setNoDelay(true);
      if (followed) delete headers.location;
      reply.writeHead(followed ? 200 : answer.status, headers);
      const body = Buffer.from(answer.body, 'base64');
      const size = cut || body.length;
      for (let at = 0; at < body.length; at += size) reply.write(body.subarray(at, at + size));
      reply.end();
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

// ---------------------------------------------------------------- programs

const children = new Set();
let folder;

function start(command, args, options) {
  const child = spawn(command, args, options);
  children.add(child);
  child.gone = new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(code === 0 ? undefined : `exit ${code ?? signal}`));
  }).then((how) => {
    children.delete(child);
    return how;
  });
  return child;
}

async function startGateway(upstream) {
  folder = mkdtempSync(path.join(tmpdir(), 'sekuire-differential-'));
  const policy = path.join(folder, 'sekuire.yml');
  writeFileSync(policy, POLICY);
  const binary = process.env.SEKUIRE_GATEWAY;
  if (!binary) throw new Error('SEKUIRE_GATEWAY: set it to the path of sekuire-gateway');
  const args = ['serve', '--policy', policy, '--listen', '127.0.0.1:0', '--upstream', upstream];
  const child = start(path.resolve(binary), args, { stdio: ['ignore', 'pipe', 'pipe'] });
  child.told = '';
  child.stderr.setEncoding('utf8').on('data', (data) => (child.told = (child.told + data).slice(-4000)));
  const line = await Promise.race([
    new Promise((resolve) => createInterface({ input: child.stdout }).once('line', resolve)),
    child.gone,
    new Promise((resolve) => setTimeout(resolve, 10_000, 'nothing in time')),
  ]);
  const [, origin] = /^listening on (http:\/\/\S+)$/.exec(line) ?? [];
  if (!origin) throw new Error(`the gateway did not listen: ${line}\n${child.told}`);
  child.origin = origin;
  return child;
}

function cleanUp() {
  for (const child of children) child.kill('SIGKILL');
  if (folder) rmSync(folder, { recursive: true, force: true });
}

// -------------------------------------------------------------------- run

// The bytes and the status of an answer, as no client library reads them.
async function bytes(origin, number) {
  const { api, stream } = cases[number];
  const reply = await fetch(`${origin}/v1/${api === 'chat' ? 'chat/completions' : 'responses'}`, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'content-type': 'application/json', 'accept-encoding': 'identity' },
    body: JSON.stringify({ model: `${number}-0`, stream, ...(api === 'chat' ? { messages: [] } : { input: 'x' }) }),
  });
  let body;
  try {
    body = Buffer.from(await reply.arrayBuffer()).toString('base64');
  } catch (error) {
    body = `broken off: ${error.message}`;
  }
  return { status: reply.status, body };
}

const forbidden = (seen) => seen.filter((name) => !ALLOWED.has(name));

async function main() {
  const split = process.argv.indexOf('--');
  const options = process.argv.slice(2, split);
  const [program, ...args] = process.argv.slice(split + 1);
  if (split < 0 || !program || options[0] !== '--live') throw new Error('node run.mjs --live N -- PROGRAM ARGUMENT...');
  const only = process.env.SEKUIRE_ONLY;
  const least = only ? 0 : Number(options[1]);
  const chosen = cases.map((_, number) => number).filter((number) => !only || cases[number].name.includes(only));

  const upstream = await startUpstream();
  const gateway = await startGateway(upstream.origin);
  check('streams.json is what streams.mjs writes', readFileSync(FILE, 'utf8') === text ? '' : 'run node streams.mjs');

  // Innocent twins: an answer is not refused only because it is odd.
  for (const number of chosen.filter((number) => cases[number].twin)) {
    const { name, twin } = cases[number];
    const governed = await bytes(gateway.origin, number);
    const direct = await bytes(upstream.origin, number);
    const how = governed.status === direct.status && governed.body === direct.body ? 'passes' : 'refused';
    const told = Buffer.from(governed.body, 'base64').toString().slice(-300);
    check(`${name}: ${twin}`, how === twin ? '' : `${how}: ${governed.status} ${told}`);
  }

  const environment = { DIRECT: upstream.origin, GOVERNED: gateway.origin };
  for (const [name, value] of Object.entries(process.env)) {
    if (!/^OPENAI_|_proxy$|^LANGSMITH_|^LANGCHAIN_/i.test(name)) environment[name] = value;
  }
  const child = start(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: environment });
  const clients = new Map(); // client -> number -> what it saw
  for await (const line of createInterface({ input: child.stdout })) {
    const told = JSON.parse(line);
    if (!clients.has(told.client)) clients.set(told.client, new Map());
    const byCase = clients.get(told.client);
    if (!byCase.has(told.case)) byCase.set(told.case, { direct: [], governed: [] });
    byCase.get(told.case)[told.way].push(told);
  }
  check('the client program ended well', await child.gone);

  let live = 0;
  const shown = [...clients.keys()];
  const rows = new Map();
  for (const [client, byCase] of clients) {
    for (const [number, { direct, governed }] of byCase) {
      const { name, hostile, twin } = cases[number];
      const leaks = governed.filter(({ seen }) => forbidden(seen).length);
      const dangerous = direct.some(({ seen }) => forbidden(seen).length);
      let problem = direct.length && governed.length ? '' : 'not asked both ways';
      if (leaks.length) {
        problem = leaks.map(({ seen, cut }) => `saw ${JSON.stringify(seen)} in pieces of ${cut}`).join('; ');
      } else if (twin === 'passes') {
        // What passes is read alike.
        const read = ({ seen, error }) => JSON.stringify([seen, Boolean(error)]);
        const other = governed.find((told) => read(told) !== read(direct[0]));
        if (other) problem = `read ${JSON.stringify(other)}, without the gateway ${JSON.stringify(direct[0])}`;
      }
      check(`${client}: ${name}`, problem);
      if (!hostile) continue;
      live += dangerous;
      if (!rows.has(name)) rows.set(name, new Map());
      rows.get(name).set(client, leaks.length ? '!' : dangerous ? 'x' : '.');
    }
  }
  console.log('\nx: the client sees the forbidden tool without the gateway; .: it does not; !: it sees it through the gateway');
  shown.forEach((client, at) => console.log(`${'  '.repeat(at)}${client}`));
  for (const [name, row] of rows) {
    console.log(`${shown.map((client) => row.get(client) ?? ' ').join(' ')}  ${name}`);
  }
  const all = [...rows.values()].reduce((sum, row) => sum + row.size, 0);
  console.log(`\n${live} of ${all} pairs of client and hostile answer are live`);
  check(`at least ${least} are live`, live >= least ? '' : `${live} are`);
  check('every hostile answer was asked for', rows.size === chosen.filter((n) => cases[n].hostile).length ? '' : `${rows.size} were`);
  if (failed.length) {
    console.log(`\nThe gateway's stderr ends:\n${gateway.told}\nFailed:\n${failed.map((name) => `  ${name}`).join('\n')}`);
  }
}

const report = () => console.log(`${passed} passed, ${failed.length} failed`);
const watchdog = setTimeout(() => {
  check('the run', `not done after ${RUN_TIMEOUT_MS} ms`);
  report();
  cleanUp();
  process.exit(1);
}, RUN_TIMEOUT_MS);
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    cleanUp();
    process.exit(1);
  });
}
try {
  await main();
} catch (error) {
  check('the run', error.stack);
}
clearTimeout(watchdog);
cleanUp();
report();
process.exit(failed.length || !passed ? 1 : 0);

// Every feature and every refusal with every SDK, and a document of what each shows its user:
//
//     node matrix.mjs PYTHON RUST-CLIENT
//
//     client -> counter -> sekuire-gateway -> provider
//
// The clients (matrix-clients.mjs, matrix_clients.py, rust/) get their jobs in a
// file and print one JSON line for each: what the application was given, or the
// error that it met. They use the unmodified SDK as its documentation says, with
// the default retries, and judge nothing. The counter takes the first segment of
// the path as the name of the cell, so that each attempt is known by its cell. It
// tells the cell in headers, by which the provider chooses its answer and the
// gateway the agent whose limits count.
//
//   SEKUIRE_GATEWAY   path of the gateway binary (required)
//   SEKUIRE_ONLY=TEXT runs only the cells whose name contains TEXT; no document
//   SEKUIRE_WRITE=1   writes ../../docs/sdks.md instead of comparing with it

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { FIXED, outputItems, pieces, responseEvents, responseObject } from './answers.mjs';
import { GATEWAY, Gateway, sleep } from './gateway.mjs';
import { changesOf, documentOf } from './matrix-document.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const DOCUMENT = path.join(HERE, '../../docs/sdks.md');
const ONLY = process.env.SEKUIRE_ONLY;
const RUN_TIMEOUT_MS = 150_000;
const CELL = 'x-conformance-cell';
const AGENT = 'x-conformance-agent'; // which the gateway keeps for itself

// -------------------------------------------------------------- the matrix

const noEmbeddings = 'agents have no embeddings; their users call `openai` for those';
export const SDKS = [
  { id: 'openai-js', title: '`openai`, JavaScript', tellsType: true },
  { id: 'agents-js', title: '`@openai/agents`', tellsType: true, leaves: { embeddings: noEmbeddings } },
  // The AI SDK doesn't read `x-should-retry`, and repeats what has status 429.
  { id: 'ai-sdk', title: '`ai` with `@ai-sdk/openai`', attempts: { budget: 3, hour: 3 } },
  { id: 'openai-py', title: '`openai`, Python', tellsType: true },
  { id: 'agents-py', title: '`openai-agents`', tellsType: true, leaves: { embeddings: noEmbeddings } },
  { id: 'langchain-py', title: '`langchain-openai`, Python', tellsType: true },
  { id: 'async-openai', title: '`async-openai`' },
];
const APIS = ['chat', 'responses'];

const TEXT = 'Paris has about two million inhabitants, and many cafés.';
const BEFORE_THE_CALL = 'Let me tidy up first.';
const TOOL_ANSWER = 'The sum is known.';
const OBJECT = { city: 'Paris', inhabitants: 2000000 };
const WORDS = 3000;
const LONG_TEXT = Array.from({ length: WORDS }, (_, n) => `word${n} `).join('');
const DIMENSIONS = 8;
const sum = (id, a, b) => ({ id, name: 'calculator', arguments: JSON.stringify({ a, b }) });
const FORBIDDEN = { id: 'call_delete', name: 'file_delete', arguments: '{"path":"notes.txt"}' };

// About a megabyte once it is base64, with the head of a PNG, by which clients know its type.
const IMAGE = Buffer.concat([
  Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'),
  ...Array.from({ length: 24_000 }, (_, n) => createHash('sha256').update(`${n}`).digest()),
]);
const digest = (bytes) => `image ${createHash('sha256').update(bytes).digest('hex')}`;

// What is allowed. `turn`: the provider's answer; `check`: what the application was given.
const FEATURES = {
  text: { title: 'text', turn: { content: TEXT }, check: (told) => assert.equal(told.text, TEXT) },
  tool: {
    title: 'tool call',
    turn: { toolCalls: [sum('call_1', 2, 3)] },
    tools: ['calculator'],
    check: (told) => assert.deepEqual(told.calls, [['calculator', { a: 2, b: 3 }]]),
  },
  parallel: {
    title: 'parallel tool calls',
    turn: { toolCalls: [sum('call_1', 2, 3), sum('call_2', 4, 5)] },
    tools: ['calculator'],
    check: (told) =>
      assert.deepEqual(told.calls, [['calculator', { a: 2, b: 3 }], ['calculator', { a: 4, b: 5 }]]),
  },
  structured: {
    title: 'structured output',
    turn: { content: JSON.stringify(OBJECT) },
    check(told, { requests }) {
      assert.deepEqual(told.object, OBJECT);
      const format = requests[0].response_format ?? requests[0].text?.format;
      assert.equal(format?.type, 'json_schema', 'the request asks for a schema');
    },
  },
  embeddings: {
    title: 'embeddings',
    once: true, // neither of the two APIs, and no stream
    check: (told) => assert.equal(told.dimensions, DIMENSIONS),
  },
  vision: {
    title: 'image of 1 MB',
    turn: (request) => ({ content: digest(imageOf(request)) }),
    check: (told) => assert.equal(told.text, digest(IMAGE)),
  },
  long: {
    title: `stream of ${WORDS.toLocaleString('en')} events`,
    form: 'stream',
    turn: { content: LONG_TEXT },
    check: (told) => assert.ok(told.text === LONG_TEXT, `${told.text?.length} characters of ${LONG_TEXT.length}`),
  },
  cancel: {
    title: 'cancel inside a stream',
    form: 'stream',
    turn: { endless: true },
    async check(told, cell) {
      assert.ok(told.cancelled, 'the client did not cancel');
      for (let waited = 0; !cell.leftUpstream && waited < 5_000; waited += 20) await sleep(20);
      assert.ok(cell.leftUpstream, "the provider's connection is still open");
    },
  },
};

const POLICY_REFUSAL = { status: 403, attempts: 1 };
const REFUSALS = {
  model: {
    ...POLICY_REFUSAL,
    title: 'forbidden model',
    model: 'gpt-3.5-turbo',
    upstream: 0,
    code: 'model_blocked',
    message: 'Model gpt-3.5-turbo is not allowed',
  },
  declared: {
    ...POLICY_REFUSAL,
    title: 'forbidden tool declared',
    tools: ['calculator', 'file_delete'],
    upstream: 0,
    code: 'tool_blocked',
    message: 'Tool file_delete is blocked',
  },
  called: {
    ...POLICY_REFUSAL,
    title: 'forbidden tool called',
    turn: { content: BEFORE_THE_CALL, toolCalls: [FORBIDDEN] },
    // The application holds both and declares only what is allowed.
    tools: ['calculator', 'file_delete'],
    declare: ['calculator'],
    upstream: 1,
    code: 'tool_blocked',
    message: 'Tool file_delete is blocked',
  },
  budget: {
    title: 'token budget',
    status: 429,
    attempts: 1,
    upstream: 0,
    code: 'token_budget_exceeded',
    type: 'insufficient_quota',
    message: 'Token budget exceeded: 1000 tokens per day',
  },
  rate: { title: 'rate limit', status: 429, attempts: 2 },
  once: {
    title: 'rate limit, retries switched off',
    gateway: 'rate',
    retries: false,
    status: 429,
    attempts: 1,
    upstream: 0,
    code: 'rate_limit_exceeded',
    message: 'Rate limit exceeded: 1 request per minute',
  },
  hour: {
    title: 'rate limit, for more than a minute',
    status: 429,
    attempts: 1,
    upstream: 0,
    code: 'rate_limit_exceeded',
    type: 'insufficient_quota',
    message: 'Rate limit exceeded: 1 request per hour',
  },
};
for (const refusal of Object.values(REFUSALS)) refusal.turn ??= { content: TEXT };

const GATEWAYS = {
  open: '',
  hour: 'rate_limits: { per_agent: { requests_per_hour: 1 } }\n',
  rate: 'rate_limits: { per_agent: { requests_per_minute: 1 } }\n',
  budget: 'rate_limits: { per_agent: { tokens_per_day: 1000 } }\n',
};
const POLICY = `
models: { allowed_models: [gpt-4o-mini, text-embedding-3-small], blocked_models: [gpt-3.5-turbo] }
toolsets: { allowed_tools: [calculator], blocked_tools: [file_delete] }
permissions: { network: { enabled: true, require_tls: false, allowed_domains: [127.0.0.1] } }
`;

// Every cell, or the reason why an SDK has none.
function cellsOf(sdk) {
  const cells = [];
  for (const [kind, row] of Object.entries({ ...FEATURES, ...REFUSALS })) {
    if (sdk.leaves?.[kind]) continue;
    for (const api of row.once ? ['chat'] : APIS) {
      for (const form of row.once ? ['plain'] : row.form ? [row.form] : ['plain', 'stream']) {
        const id = `${sdk.id}.${kind}.${api}.${form}`;
        const gateway = row.gateway ?? (kind in GATEWAYS ? kind : 'open');
        cells.push({ id, sdk, kind, row, api, form, gateway, attempts: [], requests: [] });
      }
    }
  }
  return cells;
}

// ---------------------------------------------------------------- provider

let cells; // by name

function imageOf(request) {
  const url = /data:image\/png;base64,([A-Za-z0-9+/=]+)/.exec(JSON.stringify(request.messages ?? request.input));
  return Buffer.from(url?.[1] ?? '', 'base64');
}

function turnOf(cell, request) {
  const items = request.messages ?? request.input;
  const last = Array.isArray(items) ? items.at(-1) : {};
  if (last.role === 'tool' || last.type === 'function_call_output') return { content: TOOL_ANSWER };
  return typeof cell.row.turn === 'function' ? cell.row.turn(request) : cell.row.turn;
}

const USAGE = { prompt_tokens: 9, completion_tokens: 12, total_tokens: 21 };

function chatAnswer({ model }, { content, toolCalls }) {
  const message = { role: 'assistant', content: content ?? null, refusal: null };
  const call = ({ id, name, arguments: args }) => ({ id, type: 'function', function: { name, arguments: args } });
  if (toolCalls) message.tool_calls = toolCalls.map(call);
  const finish_reason = toolCalls ? 'tool_calls' : 'stop';
  const choices = [{ index: 0, message, logprobs: null, finish_reason }];
  return { ...FIXED, object: 'chat.completion', model, choices, usage: USAGE };
}

function* chatEvents({ model, stream_options }, { content, toolCalls }) {
  const chunk = { ...FIXED, object: 'chat.completion.chunk', model };
  const event = (delta, finish_reason = null) => ({ ...chunk, choices: [{ index: 0, delta, logprobs: null, finish_reason }] });
  yield event({ role: 'assistant', content: content ? '' : null, refusal: null });
  for (const piece of piecesOf(content)) yield event({ content: piece });
  for (const [index, { id, name, arguments: args }] of (toolCalls ?? []).entries()) {
    yield event({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] });
    for (const piece of pieces(args, 5)) yield event({ tool_calls: [{ index, function: { arguments: piece } }] });
  }
  yield event({}, toolCalls ? 'tool_calls' : 'stop');
  if (stream_options?.include_usage) yield { ...chunk, choices: [], usage: USAGE };
}
// A long answer comes by the word.
const piecesOf = (text) => (text?.startsWith('word0 ') ? text.match(/\S+ /g) : pieces(text ?? '', 7));

async function provide(req, res) {
  let text = '';
  for await (const piece of req.setEncoding('utf8')) text += piece;
  const request = JSON.parse(text);
  const cell = cells.get(req.headers[CELL]);
  // What only spends a limit beforehand.
  if (!cell) return whole(res, { ...chatAnswer(request, { content: TEXT }), usage: { ...USAGE, total_tokens: 1000 } });
  cell.requests.push(request);
  if (req.url === '/v1/embeddings') {
    const floats = Float32Array.from({ length: DIMENSIONS }, (_, n) => n / 8);
    const embedding =
      request.encoding_format === 'base64' ? Buffer.from(floats.buffer).toString('base64') : [...floats];
    const usage = { prompt_tokens: 2, total_tokens: 2 };
    return whole(res, { object: 'list', data: [{ object: 'embedding', index: 0, embedding }], model: request.model, usage });
  }
  const turn = turnOf(cell, request);
  const chat = req.url === '/v1/chat/completions';
  if (!request.stream) {
    return whole(res, chat ? chatAnswer(request, turn) : responseObject(request, 'completed', outputItems(turn)));
  }
  res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  res.setMaxListeners(0); // one for each wait below
  res.on('close', () => (cell.leftUpstream = !res.writableFinished));
  const content = turn.endless ? Array.from({ length: 2_000 }, (_, n) => `word${n} `).join('') : turn.content;
  const events = chat
    ? chatEvents(request, { ...turn, content })
    : responseEvents(request, outputItems({ ...turn, content }), piecesOf);
  let sequence_number = 0;
  for (const event of events) {
    if (res.destroyed) return;
    const { type, ...members } = event;
    const data = chat ? event : { type, sequence_number, ...members };
    sequence_number += 1;
    const open = res.write(`${chat ? '' : `event: ${type}\n`}data: ${JSON.stringify(data)}\n\n`);
    if (turn.endless) await sleep(5);
    else if (!open) await new Promise((resolve) => res.once('drain', resolve).once('close', resolve));
  }
  res.end(chat ? 'data: [DONE]\n\n' : '');
}

function whole(res, value) {
  res.writeHead(200, { 'content-type': 'application/json' });
  res.end(JSON.stringify(value));
}

// ----------------------------------------------------------------- counter

let gateways; // by name, their URLs

// Spends what the cell finds spent. The agent is the cell; to the provider this request is nobody's.
async function spend({ id, gateway }) {
  const body = JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'spend' }] });
  const headers = { 'content-type': 'application/json', [AGENT]: id };
  const answer = await fetch(`${gateways[gateway]}/v1/chat/completions`, { method: 'POST', headers, body });
  assert.equal(answer.status, 200);
  await answer.text();
}

async function count(req, res) {
  const [, name, rest] = /^\/([^/]+)(\/.*)$/.exec(req.url) ?? [];
  const cell = cells.get(name);
  if (!cell) return res.writeHead(404).end();
  // The limit's window is a minute: it is spent now, and the client comes when little of it is left to wait for.
  if (cell.kind === 'rate' && !cell.attempts.length) {
    await spend(cell);
    await sleep(57_500);
  }
  const attempt = { at: performance.now() };
  cell.attempts.push(attempt);
  const { hostname, port, host } = new URL(gateways[cell.gateway]);
  const headers = { ...req.headers, host, [CELL]: name, [AGENT]: name };
  const options = { hostname, port, method: req.method, path: rest, headers, agent: false };
  const onward = http.request(options, (answer) => {
    Object.assign(attempt, { status: answer.statusCode, headers: answer.headers, answered: performance.now() });
    res.writeHead(answer.statusCode, answer.headers);
    answer.pipe(res);
    answer.on('error', () => res.destroy());
  });
  onward.on('error', () => res.destroy());
  res.on('close', () => onward.destroy());
  req.pipe(onward);
}

function listen(answer) {
  const server = http.createServer((req, res) =>
    answer(req, res).catch((error) => {
      console.log(`${req.url}: ${error.stack}`);
      res.destroy();
    }),
  );
  // Some clients keep a connection for long, and would wonder at its end.
  server.keepAliveTimeout = RUN_TIMEOUT_MS;
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

// ----------------------------------------------------------------- clients

const versions = {};
const clients = new Set();

// Runs a program's jobs. What it says on standard error is told only if it fails.
async function runClient(command, jobs) {
  if (!jobs.length) return;
  const env = Object.fromEntries(
    // Nothing of the caller's environment may change what the clients do.
    Object.entries(process.env).filter(([name]) => !/^(OPENAI|LANGSMITH|LANGCHAIN)_|_proxy$/i.test(name)),
  );
  const child = spawn(command[0], [...command.slice(1), jobs], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  clients.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  const how = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  clients.delete(child);
  if (how !== 0) console.log(`${command.join(' ')} ended with ${how}\n${stderr.slice(-4000)}`);
  for (const line of stdout.split('\n')) {
    if (!line.startsWith('{')) continue;
    const { id, versions: named, ...told } = JSON.parse(line);
    Object.assign(versions, named);
    if (id) cells.get(id).told = told;
  }
}

// ------------------------------------------------------------------- cells

async function judge(cell) {
  const { row, told, attempts, requests, form, sdk } = cell;
  assert.ok(told, 'the client told nothing');
  const shown = () => JSON.stringify(told).slice(0, 600);
  if (cell.kind === 'rate') {
    assert.equal(told.error, undefined, shown());
    assert.equal(told.text, TEXT);
    assert.deepEqual(attempts.map(({ status }) => status), [429, 200], 'attempts');
    const [first, second] = attempts;
    assert.match(first.headers['retry-after'], /^[1-9][0-9]*$/);
    // The exact wait, for those who read milliseconds; the other is rounded up from it.
    const told_ms = Number(first.headers['retry-after-ms']);
    assert.ok(told_ms > 0 && told_ms <= first.headers['retry-after'] * 1000, `retry-after-ms: ${told_ms}`);
    const waited = second.at - first.answered;
    // A client's timer may be a little early by the clock of another process.
    assert.ok(waited >= told_ms - 25, `the retry came after ${waited} ms, before ${told_ms}`);
    assert.equal(requests.length, 1, 'requests upstream');
    return;
  }
  if (cell.kind in FEATURES) {
    assert.equal(told.error, undefined, shown());
    await row.check(told, cell);
    // A tool's result makes a second request, where the SDK runs tools itself.
    const turns = row.tools && told.text ? 2 : 1;
    if (turns === 2) assert.equal(told.text, TOOL_ANSWER);
    assert.equal(attempts.length, turns, 'attempts');
    assert.equal(requests.length, turns, 'requests upstream');
    if (!row.once) assert.equal(Boolean(requests[0].stream), form === 'stream', 'the request asks for a stream');
    if (!row.once) assert.equal('input' in requests[0], cell.api === 'responses', 'the API of the request');
    return;
  }
  const { error } = told;
  assert.ok(error, `no error: ${shown()}`);
  assert.equal(error.code, row.code, shown());
  assert.ok(error.message.includes(row.message), shown());
  if (sdk.tellsType) assert.equal(error.type, row.type ?? 'policy_violation', shown());
  assert.deepEqual(told.calls ?? [], [], 'calls that the application saw');
  const expected = sdk.attempts?.[cell.kind] ?? row.attempts;
  // A stream whose head has left ends with the refusal.
  const inside = cell.kind === 'called' && form === 'stream';
  assert.deepEqual(attempts.map(({ status }) => status), Array(expected).fill(inside ? 200 : row.status), 'attempts');
  // It is the SDK's user here who doesn't want to wait.
  const worthWaiting = cell.kind === 'once';
  if (!inside) assert.equal(attempts[0].headers['x-should-retry'], worthWaiting ? undefined : 'false');
  assert.equal(requests.length, row.upstream, 'requests upstream');
  if (inside) assert.equal(told.text, BEFORE_THE_CALL, 'the text before the call');
}

async function main() {
  if (!GATEWAY) throw new Error('SEKUIRE_GATEWAY: set it to the path of sekuire-gateway');
  const [python, rust] = process.argv.slice(2);
  if (!rust) throw new Error('usage: node matrix.mjs PYTHON RUST-CLIENT');
  const folder = mkdtempSync(path.join(tmpdir(), 'sekuire-matrix-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

  const chosen = SDKS.flatMap(cellsOf).filter(({ id }) => !ONLY || id.includes(ONLY));
  cells = new Map(chosen.map((cell) => [cell.id, cell]));
  const provider = await listen(provide);
  const counter = await listen(count);
  gateways = {};
  for (const [name, limits] of Object.entries(GATEWAYS)) {
    const policy = path.join(folder, `${name}.yml`);
    writeFileSync(policy, POLICY + limits);
    gateways[name] = (await Gateway.start(policy, provider, '--agent-header', AGENT)).url;
  }

  await Promise.all(chosen.filter(({ kind, gateway }) => gateway !== 'open' && kind !== 'rate').map(spend));
  const started = performance.now();

  const image = path.join(folder, 'image.base64');
  writeFileSync(image, IMAGE.toString('base64'));
  const jobsOf = (...ids) => {
    const jobs = chosen
      .filter(({ sdk }) => ids.includes(sdk.id))
      .map(({ id, sdk, kind, row, api, form }) => ({
        id,
        sdk: sdk.id,
        kind,
        api,
        stream: form === 'stream',
        base: `${counter}/${id}/v1`,
        model: row.model ?? (kind === 'embeddings' ? 'text-embedding-3-small' : 'gpt-4o-mini'),
        tools: row.tools ?? [],
        declare: row.declare ?? row.tools ?? [],
        retries: row.retries ?? true,
      }));
    if (!jobs.length) return [];
    const file = path.join(folder, `${ids[0]}.json`);
    writeFileSync(file, JSON.stringify({ image, jobs }));
    return file;
  };
  await Promise.all([
    runClient([process.execPath, path.join(HERE, 'matrix-clients.mjs')], jobsOf('openai-js', 'agents-js', 'ai-sdk')),
    runClient([python, path.join(HERE, 'matrix_clients.py')], jobsOf('openai-py', 'agents-py', 'langchain-py')),
    runClient([rust], jobsOf('async-openai')),
  ]);

  const failed = [];
  for (const cell of chosen) {
    try {
      await judge(cell);
      console.log(`ok    ${cell.id}`);
    } catch (error) {
      failed.push(cell.id);
      console.log(`FAIL  ${cell.id}\n      ${String(error.message).replaceAll('\n', '\n      ')}`);
    }
  }
  for (const { id, kind, told, attempts } of chosen) {
    if (process.env.SEKUIRE_SHOW) console.log(id, attempts.length, JSON.stringify(told)?.slice(0, 700));
  }
  let passed = chosen.length - failed.length;
  if (!ONLY && !failed.length) {
    const document = documentOf({ sdks: SDKS, cells: chosen, features: FEATURES, refusals: REFUSALS, versions });
    const name = 'docs/sdks.md';
    if (process.env.SEKUIRE_WRITE) writeFileSync(DOCUMENT, document);
    const changes = changesOf(readFileSync(DOCUMENT, 'utf8'), document);
    if (changes.length) {
      failed.push(...changes.map(({ cell }) => `${name}: ${cell}`));
      for (const { cell, text } of changes) console.log(`FAIL  ${name}: ${cell}\n${text}`);
      console.log('      SEKUIRE_WRITE=1 writes it anew');
    } else {
      passed += 1;
      console.log(`ok    ${name}`);
    }
  }
  if (failed.length) console.log(`Failed:\n${failed.map((name) => `  ${name}`).join('\n')}`);
  console.log(`${Math.round((performance.now() - started) / 1000)} s`);
  console.log(`${passed} passed, ${failed.length} failed`);
  return failed.length || !passed ? 1 : 0;
}

function cleanUp() {
  for (const left of Gateway.running) left.kill();
  for (const child of clients) child.kill('SIGKILL');
}

setTimeout(() => {
  const silent = [...(cells?.values() ?? [])].filter(({ told }) => !told).map(({ id }) => id);
  console.log(`the run is not done after ${RUN_TIMEOUT_MS} ms; no word of:\n  ${silent.join('\n  ')}\n0 passed, 1 failed`);
  cleanUp();
  process.exit(1);
}, RUN_TIMEOUT_MS);
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    cleanUp();
    process.exit(1);
  });
}

let status = 2;
try {
  status = await main();
} catch (error) {
  console.log(`${error.stack}\n0 passed, 1 failed`);
}
cleanUp();
process.exit(status);

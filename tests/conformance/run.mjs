// Runs the real, unmodified `openai` and `@openai/agents` packages against
// `sekuire-gateway`, with `@copilotkit/aimock` as the provider behind it:
//
//     client -> sekuire-gateway -> aimock
//
// Every case runs plain and streaming, on the chat completions API and on the
// Responses API, and counts the HTTP attempts of the client and the requests
// that reached the provider.
//
//   SEKUIRE_GATEWAY   path of the gateway binary (required)
//   SEKUIRE_POLICIES  folder of the policies (default ../../policies)
//   SEKUIRE_ONLY=TEXT runs only the cases whose name contains TEXT

import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { LLMock } from '@copilotkit/aimock';
import {
  Agent,
  OpenAIProvider,
  Runner,
  setDefaultModelProvider,
  setDefaultOpenAIClient,
  setOpenAIAPI,
  setTracingDisabled,
  tool as agentTool,
} from '@openai/agents';
import OpenAI, { APIError, PermissionDeniedError, RateLimitError } from 'openai';

import { FIXED, outputItems, responseEvents, responseObject } from './answers.mjs';
import { GATEWAY, Gateway, sleep } from './gateway.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const POLICIES = path.resolve(process.env.SEKUIRE_POLICIES ?? path.join(HERE, '../../policies'));
const POLICY = 'research-assistant-loopback.yml';
const ROOMY_POLICY = 'conformance-roomy.yml'; // the same, with a higher request limit

const TEST_TIMEOUT_MS = 15_000;
const RUN_TIMEOUT_MS = 170_000;

// Nothing of the caller's environment may change what the clients do.
for (const name of Object.keys(process.env)) {
  if (/^OPENAI_/.test(name)) delete process.env[name];
}

// ---------------------------------------------------------------- provider

// The provider refuses any other key: the gateway has to pass the client's on.
const API_KEY = 'sk-conformance';

const PROVIDER_TEXT = 'Paris has about two million inhabitants, and many cafés.';
const BEFORE_THE_CALL = 'Let me tidy up first.';
const TOOL_ANSWER = 'The sum is 5.';

const CALCULATOR = { name: 'calculator', arguments: '{"a":2,"b":3}', id: 'call_calculator' };
const FILE_DELETE = { name: 'file_delete', arguments: '{"path":"notes.txt"}', id: 'call_delete' };
const SEND_EMAIL = { name: 'send_email', arguments: '{"to":"someone"}', id: 'call_email' };

// aimock answers by the last user message; `hasToolResult` tells a first turn
// from the turn that follows a tool's execution.
function script(mock) {
  const turns = (prompt, first) => {
    RESPONSES[prompt] = first;
    mock.on({ userMessage: prompt, hasToolResult: false }, { ...FIXED, ...first });
    mock.on({ userMessage: prompt, hasToolResult: true }, { ...FIXED, content: TOOL_ANSWER });
  };
  mock.on({ userMessage: 'say something' }, { ...FIXED, content: PROVIDER_TEXT });
  turns('add two and three', { toolCalls: [CALCULATOR] });
  turns('delete my notes', { toolCalls: [FILE_DELETE] });
  turns('tidy up my desk', { content: BEFORE_THE_CALL, toolCalls: [FILE_DELETE] });
  turns('send an e-mail', { toolCalls: [SEND_EMAIL] });
  turns('add, then delete', { toolCalls: [CALCULATOR, FILE_DELETE] });
  mock.on(
    { userMessage: 'break off' },
    { ...FIXED, content: PROVIDER_TEXT },
    { chunkSize: 5, latency: 20, truncateAfterChunks: 3 },
  );
}

// The same answers on the Responses API. aimock's own have neither sequence
// numbers nor the request's settings, so this file gives them, below aimock's
// address and in its journal.
const RESPONSES = {
  'say something': { content: PROVIDER_TEXT },
  'break off': { content: PROVIDER_TEXT, breakOff: true },
};

const responsesProvider = {
  nextError: undefined,
  setJournal(journal) {
    this.journal = journal;
  },
  async handleRequest(req, res, rest) {
    let text = '';
    for await (const piece of req.setEncoding('utf8')) text += piece;
    const body = text ? JSON.parse(text) : null;
    const answer = (status, value) => {
      this.journal.add({ method: req.method, path: req.url, headers: {}, body, response: { status } });
      res.writeHead(status, { 'content-type': 'application/json' });
      res.end(JSON.stringify(value, null, 1));
      return true;
    };
    if (req.method !== 'POST' || rest !== '/') return answer(404, { error: { message: req.url, code: 'not_found' } });
    if (req.headers.authorization !== `Bearer ${API_KEY}`) {
      return answer(401, { error: { message: 'Incorrect API key', code: 'invalid_api_key' } });
    }
    if (this.nextError) {
      const error = this.nextError;
      this.nextError = undefined;
      return answer(500, { error });
    }
    const turn = responsesTurn(body);
    const output = outputItems(turn);
    if (!body.stream) return answer(200, responseObject(body, 'completed', output));

    this.journal.add({ method: req.method, path: req.url, headers: {}, body, response: { status: 200 } });
    res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    let number = 0;
    for (const event of responseEvents(body, output)) {
      const { type, ...members } = event;
      res.write(`event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: number, ...members })}\n\n`);
      number += 1;
      await sleep(1);
      if (turn.breakOff && number === 6) {
        res.destroy();
        return true;
      }
    }
    res.end(); // this API has no [DONE]
    return true;
  },
};

function responsesTurn({ input }) {
  const items = typeof input === 'string' ? [{ role: 'user', content: input }] : input;
  const last = items.at(-1);
  if (last.type === 'function_call_output') return { content: TOOL_ANSWER };
  const prompt = typeof last.content === 'string' ? last.content : last.content.map(({ text }) => text).join('');
  return RESPONSES[prompt];
}

// ----------------------------------------------------------------- clients

// An unmodified client; `fetch` is the SDK's own option, used for counting.
function newClient(origin, options = {}) {
  const client = new OpenAI({
    apiKey: API_KEY,
    baseURL: `${origin}/v1`,
    fetch: (...args) => {
      client.attempts += 1;
      return fetch(...args);
    },
    ...options,
  });
  client.attempts = 0;
  return client;
}

const SCHEMA = (properties) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
const PARAMETERS = {
  calculator: SCHEMA({ a: { type: 'number' }, b: { type: 'number' } }),
  file_delete: SCHEMA({ path: { type: 'string' } }),
  send_email: SCHEMA({ to: { type: 'string' } }),
};
const declaration = (name) => ({
  type: 'function',
  function: { name, description: name, parameters: PARAMETERS[name], strict: true },
});

// The application's tools. Each says that it ran.
function newTools(names) {
  const executed = [];
  const bodies = {
    calculator: ({ a, b }) => String(a + b),
    file_delete: () => 'deleted',
    send_email: () => 'sent',
  };
  const table = Object.fromEntries(
    names.map((name) => [
      name,
      (args) => {
        executed.push(name);
        return bodies[name](args);
      },
    ]),
  );
  return { table, executed };
}

const responsesDeclaration = (name) => ({
  type: 'function',
  name,
  description: name,
  parameters: PARAMETERS[name],
  strict: true,
});

// What a case has to know of an API.
const chatApi = {
  agents: 'chat_completions',
  declaration,
  textEvents: 5, // role, three pieces of text, finish
  textOf: (chunk) => chunk.choices[0]?.delta.content ?? '',
  assertToolResult: ({ messages }, text) => {
    assert.equal(messages.at(-1).role, 'tool');
    assert.equal(messages.at(-1).content, text);
  },
  failNext: (error) => mock.nextRequestError(500, error),
};
const responsesApi = {
  agents: 'responses',
  declaration: responsesDeclaration,
  // Two of the response, two that open the text, its three pieces, three that close it, the end.
  textEvents: 11,
  textOf: (event) => (event.type === 'response.output_text.delta' ? event.delta : ''),
  assertToolResult: ({ input }, text) => {
    assert.equal(input.at(-1).type, 'function_call_output');
    assert.equal(input.at(-1).output, text);
  },
  failNext: (error) => (responsesProvider.nextError = error),
};

// Each driver runs an agent: it asks the model, executes the tools that the
// answer calls, and asks again until the model answers with text.
//   tools     what the application can execute
//   declare   what its request declares (an application can hold more)
//   seen      collects every chunk or event that reached the application

// What applications write themselves around `create`.
const viaCreate = {
  api: chatApi,
  name: 'openai create',
  streamsChunks: true,
  ask: async ({ client, request, stream, seen }) => {
    if (!stream) return (await client.chat.completions.create(request)).choices[0].message;
    const message = { role: 'assistant', content: '', tool_calls: [] };
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      seen.push(chunk);
      const delta = chunk.choices[0]?.delta ?? {};
      message.content += delta.content ?? '';
      for (const part of delta.tool_calls ?? []) {
        const call = (message.tool_calls[part.index] ??= {
          id: part.id,
          type: 'function',
          function: { name: part.function.name, arguments: '' },
        });
        call.function.arguments += part.function.arguments ?? '';
      }
    }
    if (!message.tool_calls.length) delete message.tool_calls;
    return message;
  },
};

// The SDK's own accumulators, `parse` and `stream`.
const viaHelpers = {
  api: chatApi,
  name: 'openai parse/stream',
  streamsChunks: true,
  ask: async ({ client, request, stream, seen }) => {
    if (!stream) return (await client.chat.completions.parse(request)).choices[0].message;
    const answer = client.chat.completions.stream(request);
    for await (const chunk of answer) seen.push(chunk);
    return (await answer.finalChatCompletion()).choices[0].message;
  },
};

for (const driver of [viaCreate, viaHelpers]) {
  driver.run = async ({ client, model, prompt, stream, tools, declare, seen }) => {
    const messages = [{ role: 'user', content: prompt }];
    for (let turn = 0; turn < 4; turn += 1) {
      const request = { model, messages };
      if (declare.length) request.tools = declare.map(declaration);
      const message = await driver.ask({ client, request, stream, seen });
      if (!message.tool_calls?.length) return message.content;
      messages.push({ role: 'assistant', content: message.content, tool_calls: message.tool_calls.map(plainCall) });
      for (const call of message.tool_calls) {
        const content = tools[call.function.name](JSON.parse(call.function.arguments));
        messages.push({ role: 'tool', tool_call_id: call.id, content });
      }
    }
    throw new Error('the agent did not come to an end');
  };
}
const plainCall = ({ id, function: { name, arguments: args } }) => ({
  id,
  type: 'function',
  function: { name, arguments: args },
});

// The same two on the Responses API.
const viaResponsesCreate = {
  api: responsesApi,
  name: 'openai responses create',
  streamsChunks: true,
  ask: async ({ client, request, stream, seen }) => {
    if (!stream) return client.responses.create(request);
    const output = [];
    let text = '';
    let completed = false;
    for await (const event of await client.responses.create({ ...request, stream: true })) {
      seen.push(event);
      if (event.type === 'response.output_text.delta') text += event.delta;
      if (event.type === 'response.output_item.done') output[event.output_index] = event.item;
      if (event.type === 'response.completed') completed = true;
    }
    if (!completed) throw new Error('the stream ended before its response');
    return { output, output_text: text };
  },
};

const viaResponsesHelpers = {
  api: responsesApi,
  name: 'openai responses parse/stream',
  streamsChunks: true,
  ask: async ({ client, request, stream, seen }) => {
    if (!stream) return client.responses.parse(request);
    const answer = client.responses.stream(request);
    for await (const event of answer) seen.push(event);
    return answer.finalResponse();
  },
};

for (const driver of [viaResponsesCreate, viaResponsesHelpers]) {
  driver.run = async ({ client, model, prompt, stream, tools, declare, seen }) => {
    const input = [{ role: 'user', content: prompt }];
    for (let turn = 0; turn < 4; turn += 1) {
      const request = { model, input };
      if (declare.length) request.tools = declare.map(responsesDeclaration);
      const { output, output_text } = await driver.ask({ client, request, stream, seen });
      const calls = output.filter(({ type }) => type === 'function_call');
      if (!calls.length) return output_text;
      for (const { parsed_arguments, ...item } of output) input.push(item);
      for (const { call_id, name, arguments: args } of calls) {
        input.push({ type: 'function_call_output', call_id, output: tools[name](JSON.parse(args)) });
      }
    }
    throw new Error('the agent did not come to an end');
  };
}

// The Agents SDK.
const viaAgents = {
  api: chatApi,
  name: '@openai/agents',
  run: async ({ api, client, model, prompt, stream, tools, declare, seen }) => {
    setOpenAIAPI(api.agents);
    setDefaultOpenAIClient(client);
    // The default provider keeps the first default client it saw: take a new one.
    setDefaultModelProvider(new OpenAIProvider());
    const runner = new Runner();
    const names = Object.keys(tools);
    const sameAsHeld = names.join() === declare.join();
    const agent = new Agent({
      name: 'Research Assistant',
      instructions: 'Help.',
      model,
      tools: names.map((name) =>
        agentTool({
          name,
          description: name,
          parameters: PARAMETERS[name],
          strict: true,
          execute: tools[name],
          errorFunction: null,
        }),
      ),
      // The SDK's own way to say what the request carries.
      modelSettings: sameAsHeld ? {} : { providerData: { tools: declare.map(api.declaration) } },
    });
    if (!stream) return (await runner.run(agent, prompt, { maxTurns: 4 })).finalOutput;
    const result = await runner.run(agent, prompt, { maxTurns: 4, stream: true });
    for await (const event of result) seen.push(event);
    await result.completed;
    return result.finalOutput;
  },
};

const viaAgentsResponses = { ...viaAgents, api: responsesApi, name: '@openai/agents responses' };

const DRIVERS = [viaCreate, viaHelpers, viaAgents, viaResponsesCreate, viaResponsesHelpers, viaAgentsResponses];

// ------------------------------------------------------------------- cases

const cases = [];
const test = (name, body, timeout = TEST_TIMEOUT_MS) => cases.push({ name, body, timeout });

let mock; // the provider
let gateway; // the gateway with the roomy policy
let passed = 0;
const failed = [];
let policies; // a temporary copy of the policies, with the roomy one added

// Runs one agent and says what happened. Never rejects.
async function attempt(driver, options) {
  const { origin = gateway.url, model = 'gpt-4o-mini', stream, prompt, clientOptions } = options;
  const client = options.client ?? newClient(origin, clientOptions);
  const held = options.tools ?? [];
  const { table, executed } = newTools(held);
  const seen = [];
  const before = { attempts: client.attempts, upstream: mock.getRequests().length };
  let text;
  let error;
  try {
    const declare = options.declare ?? held;
    text = await driver.run({ api: driver.api, client, model, prompt, stream, tools: table, declare, seen });
  } catch (caught) {
    error = caught;
  }
  return {
    text,
    error,
    executed,
    seen,
    attempts: client.attempts - before.attempts,
    upstream: mock.getRequests().length - before.upstream,
  };
}

function assertAnswered(outcome, text, { requests, executed = [] }) {
  if (outcome.error) throw outcome.error;
  assert.equal(outcome.text, text);
  assert.deepEqual(outcome.executed, executed, 'tools executed');
  assert.equal(outcome.attempts, requests, 'attempts of the client');
  assert.equal(outcome.upstream, requests, 'requests upstream');
}

// One refusal: the SDK's own typed error, no retry, nothing executed.
function assertRefused(outcome, { type, status, code, message, upstream }) {
  const { error } = outcome;
  assert.ok(error, `no error; the agent answered ${JSON.stringify(outcome.text)}`);
  assert.ok(error instanceof type, `${type.name} expected, not ${error.stack}`);
  assert.equal(error.code, code);
  assert.equal(error.status, status);
  assert.ok(error.message.includes(message), `message: ${error.message}`);
  assert.deepEqual(outcome.executed, [], 'tools executed');
  assert.equal(outcome.attempts, 1, 'attempts of the client');
  assert.equal(outcome.upstream, upstream, 'requests upstream');
}

function assertRefusedRequest(outcome, code, message) {
  assertRefused(outcome, { type: PermissionDeniedError, status: 403, code, message, upstream: 0 });
  assert.equal(outcome.error.type, 'policy_violation');
  assert.equal(outcome.error.headers.get('x-should-retry'), 'false');
}

// An answer refused after the call: 403 before the head of a JSON answer, an
// error inside a stream whose head has already left.
function assertRefusedAnswer(outcome, stream, code, message) {
  const type = stream ? APIError : PermissionDeniedError;
  assertRefused(outcome, { type, status: stream ? undefined : 403, code, message, upstream: 1 });
  assert.equal(outcome.error.type, 'policy_violation');
}

for (const driver of DRIVERS) {
  for (const stream of [false, true]) {
    const label = (name) => `${driver.name}, ${stream ? 'streaming' : 'plain'}: ${name}`;

    test(label('text answer'), async () => {
      const outcome = await attempt(driver, { stream, prompt: 'say something' });
      assertAnswered(outcome, PROVIDER_TEXT, { requests: 1 });
      if (stream && driver.streamsChunks) {
        // As many events as the provider sent.
        assert.equal(outcome.seen.length, driver.api.textEvents);
      }
    });

    test(label('an allowed tool call is executed'), async () => {
      const outcome = await attempt(driver, { stream, prompt: 'add two and three', tools: ['calculator'] });
      assertAnswered(outcome, TOOL_ANSWER, { requests: 2, executed: ['calculator'] });
      driver.api.assertToolResult(mock.getLastRequest().body, '5');
    });

    // Says that the cases below can fail: the same agent, without the gateway.
    test(label('control, no gateway: a forbidden tool runs'), async () => {
      const outcome = await attempt(driver, {
        origin: mock.url,
        stream,
        prompt: 'delete my notes',
        tools: ['calculator', 'file_delete'],
        declare: ['calculator'],
      });
      assertAnswered(outcome, TOOL_ANSWER, { requests: 2, executed: ['file_delete'] });
    });

    test(label('a blocked tool in the answer'), async () => {
      const outcome = await attempt(driver, {
        stream,
        prompt: 'delete my notes',
        tools: ['calculator', 'file_delete'],
        declare: ['calculator'],
      });
      assertRefusedAnswer(outcome, stream, 'tool_blocked', 'Tool file_delete is blocked');
      assert.ok(!JSON.stringify(outcome.seen).includes('file_delete'), 'the call reached the application');
    });

    test(label('text, then a blocked tool in the answer'), async () => {
      const outcome = await attempt(driver, {
        stream,
        prompt: 'tidy up my desk',
        tools: ['calculator', 'file_delete'],
        declare: ['calculator'],
      });
      assertRefusedAnswer(outcome, stream, 'tool_blocked', 'Tool file_delete is blocked');
      const seen = JSON.stringify(outcome.seen);
      assert.ok(!seen.includes('file_delete'), 'the call reached the application');
      if (stream && driver.streamsChunks) {
        const text = outcome.seen.map(driver.api.textOf).join('');
        assert.equal(text, BEFORE_THE_CALL, 'the text before the call');
      }
    });

    test(label('a tool off the list in the answer'), async () => {
      const outcome = await attempt(driver, {
        stream,
        prompt: 'send an e-mail',
        tools: ['calculator', 'send_email'],
        declare: ['calculator'],
      });
      assertRefusedAnswer(outcome, stream, 'tool_not_allowed', 'Tool send_email is not in the allowlist');
    });

    test(label('a blocked tool beside an allowed one: neither runs'), async () => {
      const outcome = await attempt(driver, {
        stream,
        prompt: 'add, then delete',
        tools: ['calculator', 'file_delete'],
        declare: ['calculator'],
      });
      assertRefusedAnswer(outcome, stream, 'tool_blocked', 'Tool file_delete is blocked');
    });

    // The matrix has these of the other drivers.
    if (driver === viaHelpers || driver === viaResponsesHelpers) {
      test(label('a blocked tool declared'), async () => {
        const tools = ['calculator', 'file_delete'];
        const outcome = await attempt(driver, { stream, prompt: 'delete my notes', tools });
        assertRefusedRequest(outcome, 'tool_blocked', 'Tool file_delete is blocked');
      });

      test(label('a blocked model'), async () => {
        const outcome = await attempt(driver, { stream, prompt: 'say something', model: 'gpt-3.5-turbo' });
        assertRefusedRequest(outcome, 'model_blocked', 'Model gpt-3.5-turbo is not allowed');
      });
    }

    test(label('a tool off the list declared'), async () => {
      const tools = ['calculator', 'send_email'];
      const outcome = await attempt(driver, { stream, prompt: 'send an e-mail', tools });
      assertRefusedRequest(outcome, 'tool_not_allowed', 'Tool send_email is not in the allowlist');
    });

    test(label('a model off the list'), async () => {
      const outcome = await attempt(driver, { stream, prompt: 'say something', model: 'gpt-4.1' });
      assertRefusedRequest(outcome, 'model_not_allowed', 'Model gpt-4.1 is not in the allowlist');
    });

    test(label('rate limit: ten pass, the eleventh is refused'), async () => {
      const limited = await Gateway.start(path.join(policies, POLICY), mock.url);
      try {
        const client = newClient(limited.url, { maxRetries: 0 });
        const ask = (model) => attempt(driver, { client, stream, model, prompt: 'say something' });
        // A request that a rule refuses does not spend the limit.
        assertRefusedRequest(await ask('gpt-3.5-turbo'), 'model_blocked', 'Model gpt-3.5-turbo is not allowed');
        for (let n = 1; n <= 10; n += 1) assertAnswered(await ask('gpt-4o'), PROVIDER_TEXT, { requests: 1 });

        const outcome = await ask('gpt-4o-mini');
        const message = 'Rate limit exceeded: 10 requests per minute';
        const code = 'rate_limit_exceeded';
        assertRefused(outcome, { type: RateLimitError, status: 429, code, message, upstream: 0 });
        assertWait(outcome.error.headers);
      } finally {
        limited.kill();
      }
    });

    test(label('an error of the provider is the client\'s to retry'), async () => {
      driver.api.failNext({ message: 'try again', type: 'server_error' });
      const outcome = await attempt(driver, { stream, prompt: 'say something' });
      assertAnswered(outcome, PROVIDER_TEXT, { requests: 2 });
    });
  }
}

function assertWait(headers) {
  const seconds = headers.get('retry-after');
  assert.match(seconds ?? 'missing', /^[0-9]+$/, 'retry-after is an integer');
  assert.ok(Number(seconds) >= 1 && Number(seconds) <= 60, `retry-after: ${seconds}`);
  const milliseconds = Number(headers.get('retry-after-ms'));
  assert.ok(milliseconds > 0, `retry-after-ms: ${headers.get('retry-after-ms')}`);
  assert.ok(Math.ceil(milliseconds / 1000) <= Number(seconds), 'retry-after is rounded up');
  assert.notEqual(headers.get('x-should-retry'), 'false');
}

// The SDK's own agent loop.
for (const stream of [false, true]) {
  test(`openai runTools, ${stream ? 'streaming' : 'plain'}: an allowed tool call is executed`, async () => {
    const { table, executed } = newTools(['calculator']);
    const client = newClient(gateway.url);
    const runner = client.chat.completions.runTools({
      model: 'gpt-4o-mini',
      stream,
      messages: [{ role: 'user', content: 'add two and three' }],
      tools: [
        {
          type: 'function',
          function: { ...declaration('calculator').function, parse: JSON.parse, function: table.calculator },
        },
      ],
    });
    assert.equal(await runner.finalContent(), TOOL_ANSWER);
    assert.deepEqual(executed, ['calculator']);
    assert.equal(client.attempts, 2);
  });
}

// What is allowed arrives as the provider sent it.
for (const prompt of ['say something', 'add two and three']) {
  for (const [form, extra] of [
    ['plain', { stream: false }],
    ['streaming', { stream: true }],
    ['streaming with usage', { stream: true, stream_options: { include_usage: true } }],
  ]) {
    test(`bytes, ${form}: "${prompt}" passes untouched`, async () => {
      const body = JSON.stringify({
        model: 'gpt-4o-mini',
        ...extra,
        messages: [{ role: 'user', content: prompt }],
      });
      const fetchFrom = async (origin) => {
        const headers = { 'content-type': 'application/json', authorization: `Bearer ${API_KEY}` };
        const answer = await fetch(`${origin}/v1/chat/completions`, { method: 'POST', headers, body });
        return { status: answer.status, type: answer.headers.get('content-type'), body: await answer.text() };
      };
      const direct = await fetchFrom(mock.url);
      assert.equal(direct.status, 200);
      assert.deepEqual(await fetchFrom(gateway.url), direct);
    });
  }
}

for (const prompt of ['say something', 'add two and three']) {
  for (const stream of [false, true]) {
    test(`responses bytes, ${stream ? 'streaming' : 'plain'}: "${prompt}" passes untouched`, async () => {
      const tools = [responsesDeclaration('calculator')];
      const body = JSON.stringify({ model: 'gpt-4o-mini', stream, tools, input: prompt });
      const fetchFrom = async (origin) => {
        const headers = { 'content-type': 'application/json', authorization: `Bearer ${API_KEY}` };
        const answer = await fetch(`${origin}/v1/responses`, { method: 'POST', headers, body });
        return { status: answer.status, type: answer.headers.get('content-type'), body: await answer.text() };
      };
      const direct = await fetchFrom(mock.url);
      assert.equal(direct.status, 200);
      assert.deepEqual(await fetchFrom(gateway.url), direct);
    });
  }
}

test('responses bytes, streaming: a refusal is the last event, and numbered on', async () => {
  const answer = await fetch(`${gateway.url}/v1/responses`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${API_KEY}` },
    body: JSON.stringify({ model: 'gpt-4o-mini', stream: true, input: 'tidy up my desk' }),
  });
  assert.equal(answer.status, 200);
  const frames = (await answer.text()).trimEnd().split('\n\n');
  const events = frames.map((frame) => JSON.parse(/^data: (.*)$/m.exec(frame)[1]));
  const last = events.pop();
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.ok(last.sequence_number >= events.length, `sequence_number: ${last.sequence_number}`); // withheld events may count
  assert.equal(last.type, 'error');
  assert.equal(last.code, 'tool_blocked');
  assert.match(frames.at(-1), /^event: error$/m);
  assert.ok(events.every(({ type }) => type !== 'error' && type !== 'response.completed'));
  assert.equal(events.map(responsesApi.textOf).join(''), BEFORE_THE_CALL);
});

for (const driver of [viaCreate, viaResponsesCreate]) {
  test(`${driver.name}, streaming: a stream that breaks off is an error`, async () => {
    const outcome = await attempt(driver, { stream: true, prompt: 'break off' });
    assert.ok(outcome.error, 'a broken stream ended as if it were whole');
    assert.notEqual(outcome.error.message, 'the stream ended before its response');
    assert.equal(outcome.attempts, 1);
  });
}

// A provider that tells a stream's usage to those who ask, as OpenAI's API does; `nulls` as well on every other chunk.
async function usageProvider(nulls) {
  const asked = [];
  const server = http.createServer(async (req, res) => {
    let text = '';
    for await (const piece of req.setEncoding('utf8')) text += piece;
    const wants = JSON.parse(text).stream_options?.include_usage === true;
    asked.push(wants);
    const chunk = { ...FIXED, object: 'chat.completion.chunk', model: 'gpt-4o-mini' };
    const choice = (delta, finish_reason = null) => ({ ...chunk, choices: [{ index: 0, delta, finish_reason }] });
    const chunks = [choice({ role: 'assistant', content: '' }), choice({ content: PROVIDER_TEXT }), choice({}, 'stop')];
    if (wants && nulls) for (const each of chunks) each.usage = null;
    const usage = { prompt_tokens: 5, completion_tokens: 11, total_tokens: 16 };
    if (wants) chunks.push({ ...chunk, choices: [], usage });
    res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    for (const each of chunks) {
      res.write(`data: ${JSON.stringify(each)}\n\n`);
      await sleep(2);
    }
    res.end('data: [DONE]\n\n');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { asked, url: `http://127.0.0.1:${server.address().port}`, end: () => server.close() };
}

for (const nulls of [false, true]) {
  const name = `openai streaming under a token limit, ${nulls ? 'usage null on each chunk' : 'usage on the last chunk alone'}`;
  test(`${name}: a client gets the usage it asked for, and no more`, async () => {
    const policy = path.join(policies, 'conformance-tokens.yml');
    writeFileSync(policy, 'rate_limits: { per_agent: { tokens_per_day: 1000000 } }\n');
    const provider = await usageProvider(nulls);
    const limited = await Gateway.start(policy, provider.url);
    try {
      const stream = async (origin, stream_options) => {
        let bytes = '';
        const client = newClient(origin, {
          fetch: async (...args) => {
            const response = await fetch(...args);
            const [kept, copied] = response.body.tee();
            bytes = new Response(copied).text();
            return new Response(kept, response);
          },
        });
        const chunks = [];
        const request = { model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'say something' }], stream: true };
        if (stream_options !== undefined) request.stream_options = stream_options;
        for await (const chunk of await client.chat.completions.create(request)) chunks.push(chunk);
        return { chunks, bytes: await bytes };
      };
      for (const options of [undefined, null, {}, { include_usage: false }, { include_usage: true }]) {
        const wants = options?.include_usage === true;
        const direct = await stream(provider.url, options);
        const governed = await stream(limited.url, options);
        assert.deepEqual(provider.asked.splice(0), [wants, true], 'the provider is asked for usage');
        if (wants || !nulls) {
          assert.equal(governed.bytes, direct.bytes);
        } else {
          // What the provider writes into every chunk stays: no byte of an allowed event is changed.
          const plain = governed.bytes.replaceAll(',"usage":null', '');
          assert.equal(plain, direct.bytes);
          assert.notEqual(plain, governed.bytes);
        }
        assert.equal(governed.chunks.length, wants ? 4 : 3);
        assert.equal(governed.chunks.some((chunk) => chunk.usage), wants);
      }
    } finally {
      limited.kill();
      provider.end();
    }
  });
}

// Last, because it ends the gateway that the cases above share.
test('the gateway said one line on stdout and stops on SIGTERM', async () => {
  const how = await gateway.stop();
  assert.deepEqual(how, { code: 0, signal: null });
  assert.match(gateway.stdout, /^listening on http:\/\/127\.0\.0\.1:[1-9][0-9]*\n$/);
});

// -------------------------------------------------------------------- main

function preparePolicies() {
  const source = path.join(POLICIES, POLICY);
  if (!existsSync(source)) throw new Error(`${source}: not found; set SEKUIRE_POLICIES`);
  const folder = mkdtempSync(path.join(tmpdir(), 'sekuire-conformance-'));
  cpSync(POLICIES, folder, { recursive: true });
  const text = readFileSync(source, 'utf8');
  const roomy = text.replace(/requests_per_minute: 10$/m, 'requests_per_minute: 100000');
  if (roomy === text) throw new Error(`${source}: no line "requests_per_minute: 10"`);
  writeFileSync(path.join(folder, ROOMY_POLICY), roomy);
  return folder;
}

async function withTimeout(body, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${ms} ms`)), ms);
  });
  try {
    await Promise.race([body(), late]);
  } finally {
    clearTimeout(timer);
  }
}

// An error with its cause, and only the frames of this file.
function indented(error) {
  const lines = String(error?.stack ?? error).split('\n');
  const told = lines.filter((line) => !/^ +at /.test(line) || line.includes('run.mjs'));
  if (error?.cause) told.push(`caused by ${error.cause}`);
  return told.map((line) => `      ${line}`).join('\n');
}

function cleanUp() {
  for (const left of Gateway.running) left.kill();
  if (policies) rmSync(policies, { recursive: true, force: true });
}

async function main() {
  if (!GATEWAY) throw new Error('SEKUIRE_GATEWAY: set it to the path of sekuire-gateway');
  setTracingDisabled(true);
  policies = preparePolicies();
  mock = new LLMock({ port: 0, host: '127.0.0.1', journalMaxEntries: 0, auth: { apiKeys: [API_KEY] } });
  script(mock);
  mock.mount('/v1/responses', responsesProvider);
  await mock.start();
  gateway = await Gateway.start(path.join(policies, ROOMY_POLICY), mock.url);

  const only = process.env.SEKUIRE_ONLY;
  const chosen = only ? cases.filter(({ name }) => name.includes(only)) : cases;
  for (const { name, body, timeout } of chosen) {
    const start = performance.now();
    try {
      await withTimeout(body, timeout);
      passed += 1;
      console.log(`ok    ${name} (${Math.round(performance.now() - start)} ms)`);
    } catch (error) {
      failed.push(name);
      console.log(`FAIL  ${name}\n${indented(error)}`);
    }
  }
  if (failed.length) {
    console.log(`\nThe gateway's stderr ends:\n${gateway.stderr.slice(-4000)}`);
    console.log(`Failed:\n${failed.map((name) => `  ${name}`).join('\n')}`);
  }
  console.log(`${passed} passed, ${failed.length} failed`);
  return failed.length || !passed ? 1 : 0;
}

const watchdog = setTimeout(() => {
  console.log(`the run is not done after ${RUN_TIMEOUT_MS} ms\n${passed} passed, ${failed.length + 1} failed`);
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
  console.log(`${error.message}\n0 passed, 1 failed`);
}
clearTimeout(watchdog);
cleanUp();
process.exit(status);

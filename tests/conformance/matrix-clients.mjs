// The SDKs for JavaScript in the matrix: does the jobs of a file, and prints what
// the application was given (matrix.mjs says how).

import { readFileSync } from 'node:fs';

import { createOpenAI } from '@ai-sdk/openai';
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool as agentTool } from '@openai/agents';
import { embed, generateText, isStepCount, Output, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const { image, jobs } = JSON.parse(readFileSync(process.argv[2]));
const IMAGE = `data:image/png;base64,${readFileSync(image)}`;
const API_KEY = 'sk-conformance';
const PROMPT = 'Hello.';
const AT_ONCE = 4;
const EVENTS_BEFORE_CANCEL = 5;

globalThis.AI_SDK_LOG_WARNINGS = false;
setTracingDisabled(true);

const TOOLS = {
  calculator: z.object({ a: z.number(), b: z.number() }),
  file_delete: z.object({ path: z.string() }),
};
const CITY = z.object({ city: z.string(), inhabitants: z.number() });
const schemaOf = (name) => z.toJSONSchema(TOOLS[name]);

// How a user of each SDK finds the rule that refused: the first of these that is a string.
const codeOf = (error, paths) => {
  for (const where of paths) {
    const value = where.split('.').slice(1).reduce((held, key) => held?.[key], error);
    if (typeof value === 'string') return { code: value, where };
  }
  return {};
};
const errorOf = (error, paths) => ({
  class: error?.constructor === Object ? 'plain object' : (error?.constructor?.name ?? typeof error),
  message: String(error?.message ?? error),
  type: error?.type,
  ...codeOf(error, paths),
});

// ------------------------------------------------------------------- openai

const openaiDeclaration = {
  chat: (name) => ({ type: 'function', function: { name, parameters: schemaOf(name), strict: true } }),
  responses: (name) => ({ type: 'function', name, parameters: schemaOf(name), strict: true }),
};

// Its own default, unless the job says otherwise.
const openaiClient = ({ base, retries }) =>
  new OpenAI({ apiKey: API_KEY, baseURL: base, ...(!retries && { maxRetries: 0 }) });

async function openai(job, told) {
  const client = openaiClient(job);
  const { kind, api, stream, model } = job;
  if (kind === 'embeddings') {
    told.dimensions = (await client.embeddings.create({ model, input: PROMPT })).data[0].embedding.length;
    return;
  }
  const chat = api === 'chat';
  const parts = chat
    ? [{ type: 'text', text: PROMPT }, { type: 'image_url', image_url: { url: IMAGE } }]
    : [{ type: 'input_text', text: PROMPT }, { type: 'input_image', image_url: IMAGE, detail: 'auto' }];
  const messages = [{ role: 'user', content: kind === 'vision' ? parts : PROMPT }];
  const request = chat ? { model, messages } : { model, input: messages };
  if (job.declare.length) request.tools = job.declare.map(openaiDeclaration[api]);
  const surface = chat ? client.chat.completions : client.responses;

  if (kind === 'structured') {
    if (chat) request.response_format = zodResponseFormat(CITY, 'city');
    else request.text = { format: zodTextFormat(CITY, 'city') };
    const parsed = (answer) => (chat ? answer.choices[0].message.parsed : answer.output_parsed);
    if (!stream) told.object = parsed(await surface.parse(request));
    else if (chat) told.object = parsed(await surface.stream(request).finalChatCompletion());
    else told.object = parsed(await surface.stream(request).finalResponse());
    return;
  }
  const call = ({ name, arguments: args }) => [name, JSON.parse(args)];
  if (!stream) {
    const answer = await surface.create(request);
    told.text = chat ? (answer.choices[0].message.content ?? '') : answer.output_text;
    const calls = chat
      ? (answer.choices[0].message.tool_calls ?? []).map((each) => each.function)
      : answer.output.filter(({ type }) => type === 'function_call');
    told.calls = calls.map(call);
    return;
  }
  const stop = new AbortController();
  const calls = [];
  told.text = '';
  told.calls = [];
  let events = 0;
  for await (const event of await surface.create({ ...request, stream: true }, { signal: stop.signal })) {
    events += 1;
    if (kind === 'cancel' && events === EVENTS_BEFORE_CANCEL) {
      told.cancelled = true;
      stop.abort();
    }
    if (chat) {
      const delta = event.choices[0]?.delta ?? {};
      told.text += delta.content ?? '';
      for (const { index, function: part } of delta.tool_calls ?? []) {
        calls[index] ??= { name: part.name, arguments: '' };
        calls[index].arguments += part.arguments ?? '';
      }
    } else {
      if (event.type === 'response.output_text.delta') told.text += event.delta;
      if (event.type === 'response.output_item.done' && event.item.type === 'function_call') calls.push(event.item);
    }
  }
  told.calls = calls.map(call);
}

// ------------------------------------------------------------------- agents

async function agents(job, told) {
  const { kind, api, stream, model } = job;
  const where = job.retries ? { apiKey: API_KEY, baseURL: job.base } : { openAIClient: openaiClient(job) };
  const provider = new OpenAIProvider({ ...where, useResponses: api === 'responses' });
  const runner = new Runner({ modelProvider: provider });
  told.calls = [];
  const execute = (name) => (args) => {
    told.calls.push([name, args]);
    return 'done';
  };
  const tools = job.tools.map((name) =>
    agentTool({ name, description: name, parameters: TOOLS[name], execute: execute(name) }),
  );
  // The SDK's own way to say what the request carries.
  const elsewise = { providerData: { tools: job.declare.map(openaiDeclaration[api]) } };
  const agent = new Agent({
    name: 'Research Assistant',
    model,
    tools,
    modelSettings: job.declare.length === job.tools.length ? {} : elsewise,
    ...(kind === 'structured' && { outputType: CITY }),
  });
  const parts = [{ type: 'input_text', text: PROMPT }, { type: 'input_image', image: IMAGE }];
  const input = kind === 'vision' ? [{ role: 'user', content: parts }] : PROMPT;
  let result;
  if (stream) {
    const stop = new AbortController();
    result = await runner.run(agent, input, { stream: true, signal: stop.signal });
    let events = 0;
    told.text = '';
    for await (const event of result) {
      const text = event.type === 'raw_model_stream_event' && event.data.type === 'output_text_delta';
      if (text) told.text += event.data.delta;
      events += 1;
      if (kind === 'cancel' && events === EVENTS_BEFORE_CANCEL) {
        told.cancelled = true;
        stop.abort();
      }
    }
    await result.completed;
  } else {
    result = await runner.run(agent, input);
    told.text = result.finalOutput;
  }
  if (kind === 'structured') Object.assign(told, { object: result.finalOutput, text: undefined });
}

// ----------------------------------------------------------------------- ai

async function ai(job, told) {
  const { kind, api, stream } = job;
  const provider = createOpenAI({ apiKey: API_KEY, baseURL: job.base });
  if (kind === 'embeddings') {
    told.dimensions = (await embed({ model: provider.embedding(job.model), value: PROMPT })).embedding.length;
    return;
  }
  told.calls = [];
  const execute = (name) => (args) => {
    told.calls.push([name, args]);
    return 'done';
  };
  const stop = new AbortController();
  const parts = [{ type: 'text', text: PROMPT }, { type: 'image', image: IMAGE }];
  const options = {
    model: api === 'chat' ? provider.chat(job.model) : provider.responses(job.model),
    messages: [{ role: 'user', content: kind === 'vision' ? parts : PROMPT }],
    tools: Object.fromEntries(
      job.tools.map((name) => [name, tool({ inputSchema: TOOLS[name], execute: execute(name) })]),
    ),
    activeTools: job.declare,
    stopWhen: isStepCount(3),
    abortSignal: stop.signal,
  };
  if (!job.retries) options.maxRetries = 0;
  if (kind === 'structured') options.output = Output.object({ schema: CITY });
  if (!stream) {
    const result = await generateText(options);
    if (kind === 'structured') told.object = result.output;
    else told.text = result.text;
    return;
  }
  const result = streamText({ ...options, onError() {} });
  let events = 0;
  let text = '';
  for await (const part of result.fullStream) {
    events += 1;
    if (part.type === 'text-delta') text += part.text;
    if (kind !== 'structured') told.text = text;
    if (part.type === 'error') {
      told.asPart = true;
      throw part.error;
    }
    if (kind === 'cancel' && part.type === 'abort') told.shown = 'a part `abort`';
    if (kind === 'cancel' && events === EVENTS_BEFORE_CANCEL) {
      told.cancelled = true;
      stop.abort();
    }
  }
  if (kind === 'structured') told.object = await result.output;
}

// --------------------------------------------------------------------- jobs

const SDKS = {
  'openai-js': { run: openai, paths: ['error.code'] },
  'agents-js': { run: agents, paths: ['error.code'] },
  'ai-sdk': { run: ai, paths: ['error.data.error.code', 'error.lastError.data.error.code', 'error.code', 'error.error.code'] },
};

// The clients complain on the console, and reject promises that nobody asked for.
console.error = () => {};
console.warn = () => {};
process.on('unhandledRejection', () => {});

async function run(job) {
  const told = {};
  const { run: ask, paths } = SDKS[job.sdk];
  try {
    await ask(job, told);
  } catch (error) {
    const seen = errorOf(error, paths);
    if (told.cancelled) told.shown = `\`${seen.class}\``;
    else told.error = seen;
    if (process.env.SEKUIRE_SHOW) told.raw = JSON.stringify(error) + Object.getOwnPropertyNames(error);
  }
  process.stdout.write(`${JSON.stringify({ id: job.id, ...told })}\n`);
}

const version = (name) => {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file)).version;
};
const versions = {
  'openai-js': version('openai'),
  'agents-js': version('@openai/agents'),
  'ai-sdk': `${version('ai')} with ${version('@ai-sdk/openai')}`,
};
process.stdout.write(`${JSON.stringify({ versions })}\n`);

// Those that wait for a limit wait together.
const waiting = jobs.filter(({ kind }) => kind === 'rate').map(run);
const others = jobs.filter(({ kind }) => kind !== 'rate');
await Promise.all([
  ...waiting,
  ...Array.from({ length: AT_ONCE }, async () => {
    for (let job = others.shift(); job; job = others.shift()) await run(job);
  }),
]);

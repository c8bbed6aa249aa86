// Asks for every answer of streams.json with the clients for JavaScript, and prints
// the names of the tools that each saw (run.mjs says how).

import { readFileSync } from 'node:fs';

import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { jsonSchema, streamText, tool } from 'ai';
import OpenAI from 'openai';

const { DIRECT, GOVERNED, SEKUIRE_ONLY: ONLY } = process.env;
const CASES = JSON.parse(readFileSync(new URL('streams.json', import.meta.url)));
const TIMEOUT_MS = 3_000;
const AT_ONCE = 8;

globalThis.AI_SDK_LOG_WARNINGS = false;

// Every name of a tool in what a client handed to its application.
function names(value, seen, at = 'top') {
  if (Array.isArray(value)) for (const entry of value) names(entry, seen, at);
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return;
  const say = (name) => {
    if (name === undefined || name === null || name === '') return;
    const text = typeof name === 'string' ? name : JSON.stringify(name);
    seen.add(typeof value.namespace === 'string' && value.namespace ? `${value.namespace}.${text}` : text);
  };
  const type = typeof value.type === 'string' ? value.type : '';
  if (['function', 'custom', 'function_call'].includes(at)) say(value.name);
  else if (/_call$/.test(type)) say(value.name ?? type);
  else if (/function_call_arguments/.test(type)) say(value.name);
  say(value.toolName);
  for (const [key, entry] of Object.entries(value)) names(entry, seen, key);
}

const messages = [{ role: 'user', content: 'x' }];
const parameters = { type: 'object', properties: {}, additionalProperties: false };
const chatTools = [{ type: 'function', function: { name: 'safe', description: 'x', parameters } }];
const responsesTools = [{ type: 'function', name: 'safe', description: 'x', parameters, strict: false }];

async function* each(stream) {
  for await (const entry of stream) yield entry;
}

// Each way to ask: `read` yields what the application is given.
const openai = {
  make: (origin) => new OpenAI({ apiKey: 'sk-x', baseURL: `${origin}/v1`, maxRetries: 0, timeout: TIMEOUT_MS }),
};
// The events, then the snapshots: what the helper has put together also counts when it ends in an error.
async function* helper(runner, ...snapshots) {
  try {
    yield* each(runner);
  } finally {
    // A final message that never comes is none.
    const late = new Promise((resolve) => setTimeout(resolve, 20));
    for (const snapshot of snapshots) {
      yield await Promise.race([late, (async () => snapshot(runner))()]).catch(() => undefined);
    }
  }
}
const ai = {
  make: (origin) => ({
    openai: createOpenAI({ apiKey: 'sk-x', baseURL: `${origin}/v1` }),
    compatible: createOpenAICompatible({ name: 'x', apiKey: 'sk-x', baseURL: `${origin}/v1`, includeUsage: false }),
  }),
};
const aiTools = { safe: tool({ description: 'x', inputSchema: jsonSchema(parameters) }) };
const callOptions = {
  prompt: [{ role: 'user', content: [{ type: 'text', text: 'x' }] }],
  tools: [{ type: 'function', name: 'safe', description: 'x', inputSchema: parameters }],
};
const aiWays = (model) => [
  {
    stream: true,
    form: 'doStream',
    async *read(client, name) {
      yield* each((await model(client, name).doStream(callOptions)).stream);
    },
  },
  {
    stream: true,
    form: 'streamText',
    async *read(client, name) {
      const result = streamText({
        model: model(client, name),
        messages,
        tools: aiTools,
        maxRetries: 0,
        onError() {},
      });
      // The application is also given the error as a part.
      for await (const entry of result.fullStream) {
        yield entry;
        if (entry.type === 'error') yield { failed: entry.error };
      }
      yield await result.toolCalls;
    },
  },
  {
    stream: false,
    form: 'doGenerate',
    async *read(client, name) {
      yield (await model(client, name).doGenerate(callOptions)).content;
    },
  },
];
const family = (api, name, kind, ways) => ways.map((way) => ({ api, kind, ...way, client: `${name} ${way.form}` }));

const WAYS = [
  ...family('chat', 'openai', openai, [
    {
      stream: true,
      form: 'raw stream',
      async *read(client, model) {
        yield* each(await client.chat.completions.create({ model, messages, tools: chatTools, stream: true }));
      },
    },
    {
      stream: true,
      form: 'chat.completions.stream',
      async *read(client, model) {
        const runner = client.chat.completions.stream({ model, messages, tools: chatTools });
        const told = [];
        for (const name of ['chunk', 'message', 'tool_calls.function.arguments.done']) {
          runner.on(name, (...entries) => told.push(...entries));
        }
        yield* helper(
          runner,
          () => told,
          () => runner.currentChatCompletionSnapshot,
          () => runner.messages,
          () => runner.finalChatCompletion(),
        );
      },
    },
    {
      stream: false,
      form: 'create',
      async *read(client, model) {
        yield await client.chat.completions.create({ model, messages, tools: chatTools });
      },
    },
  ]),
  ...family('responses', 'openai', openai, [
    {
      stream: true,
      form: 'responses raw stream',
      async *read(client, model) {
        yield* each(await client.responses.create({ model, input: 'x', tools: responsesTools, stream: true }));
      },
    },
    {
      stream: true,
      form: 'responses.stream',
      async *read(client, model) {
        const runner = client.responses.stream({ model, input: 'x', tools: responsesTools });
        const told = [];
        runner.on('event', (entry) => told.push(entry));
        yield* helper(runner, () => told, () => runner.finalResponse());
      },
    },
    {
      stream: false,
      form: 'responses.create',
      async *read(client, model) {
        yield await client.responses.create({ model, input: 'x', tools: responsesTools });
      },
    },
  ]),
  ...family('chat', '@ai-sdk/openai chat', ai, aiWays((client, name) => client.openai.chat(name))),
  ...family('chat', '@ai-sdk/openai-compatible', ai, aiWays((client, name) => client.compatible(name))),
  ...family('responses', '@ai-sdk/openai responses', ai, aiWays((client, name) => client.openai.responses(name))),
];

async function ask(way, client, number, cut) {
  const seen = new Set();
  let error;
  const told = (async () => {
    for await (const entry of way.read(client, `${number}-${cut}`)) {
      if (entry?.type === 'error' || entry?.failed) error ??= entry.error ?? entry.failed;
      names(entry, seen);
    }
  })();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(reject, TIMEOUT_MS, new Error('not done in time'));
  });
  try {
    await Promise.race([told, late]);
  } catch (caught) {
    error = caught;
  }
  clearTimeout(timer);
  return { seen: [...seen].sort(), error: error && String(error.message ?? JSON.stringify(error)).slice(0, 200) };
}

// The clients complain of bad JSON on the console.
console.error = () => {};
console.warn = () => {};

// A runner of the SDK rejects promises that nobody asked for.
process.on('unhandledRejection', () => {});

const jobs = [];
for (const way of WAYS) {
  const direct = way.kind.make(DIRECT);
  const governed = way.kind.make(GOVERNED);
  CASES.forEach((answer, number) => {
    if (answer.api !== way.api || answer.stream !== way.stream) return;
    if (ONLY && !answer.name.includes(ONLY)) return;
    jobs.push([way, 'direct', direct, number, 0]);
    for (const cut of answer.stream && answer.hostile ? [0, 1, 7] : [0]) jobs.push([way, 'governed', governed, number, cut]);
  });
}
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const [way, name, client, number, cut] = job;
      const told = await ask(way, client, number, cut);
      process.stdout.write(`${JSON.stringify({ client: way.client, case: number, way: name, cut, ...told })}\n`);
    }
  }),
);

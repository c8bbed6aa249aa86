// The hostile answers, and their innocent twins.
//
//   node streams.mjs    writes streams.json, which every client program reads
//
// Each case is a builder: given the name of a tool it makes the answer. Built with
// `evil`, which the policy does not allow, it is hostile; built with `safe` it is the
// twin, of which the table says whether the gateway passes it (byte for byte) or
// refuses it because of its form.

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const SSE = 'text/event-stream';
const JSON_TYPE = 'application/json';
const PASSES = 'passes';
const REFUSED = 'refused';
const BOM = '\ufeff';

const cases = [];
const add = (api, stream, name, twin, build, extra = {}) => {
  const type = extra.type === undefined ? (stream ? SSE : JSON_TYPE) : extra.type;
  for (const tool of ['evil', 'safe']) {
    const body = build(tool);
    cases.push({
      name: tool === 'evil' ? name : `${name} (twin)`,
      api,
      stream,
      hostile: tool === 'evil',
      twin: tool === 'evil' ? undefined : twin,
      status: extra.status ?? 200,
      headers: { ...(type ? { 'content-type': type } : {}), ...extra.headers },
      // `REDIRECT` stands for the address of the upstream itself.
      body: Buffer.from(body).toString('base64'),
    });
  }
};
const chatStream = (name, twin, build, extra) => add('chat', true, `chat stream: ${name}`, twin, build, extra);
const chatJson = (name, twin, build, extra) => add('chat', false, `chat: ${name}`, twin, build, extra);
const responsesStream = (name, twin, build, extra) =>
  add('responses', true, `responses stream: ${name}`, twin, build, extra);
const responsesJson = (name, twin, build, extra) => add('responses', false, `responses: ${name}`, twin, build, extra);

// -------------------------------------------------------------- chat streams

const event = (data) => `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`;
const envelope = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1700000000, model: 'm' };
const choice = (delta, { index = 0, finish = null } = {}) => ({ index, delta, finish_reason: finish });
const chunk = (...choices) => ({ ...envelope, choices });
const part = (name, { index = 0, id = 'call_0', args = '{}' } = {}) => ({
  ...(index === undefined ? {} : { index }),
  ...(id === undefined ? {} : { id }),
  type: 'function',
  function: { name, arguments: args },
});
const parts = (...all) => chunk(choice({ tool_calls: all }));
const call = (name, how) => parts(part(name, how));
const hello = event(chunk(choice({ role: 'assistant', content: 'hello' })));
const finish = event(chunk(choice({}, { finish: 'tool_calls' })));
const DONE = 'data: [DONE]\n\n';
const end = finish + DONE;
const plain = (tool) => hello + event(call(tool)) + end;
// JSON as text, for what JSON.stringify cannot say.
const raw = (calls) =>
  `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[${calls}]},"finish_reason":null}]}`;
const rawCall = (fields) => hello + event(raw(fields)) + end;
const half = (tool) => [tool.slice(0, 2), tool.slice(2)];
const fields = (tool, index) =>
  `{"index":${index},"id":"call_0","type":"function","function":{"name":"${tool}","arguments":"{}"}}`;

chatStream('one call', PASSES, plain);
chatStream('a call after an allowed one', PASSES, (tool) =>
  hello + event(call('safe')) + event(call(tool, { index: 1, id: 'call_1' })) + end,
);
chatStream('a call before an allowed one in one chunk', PASSES, (tool) =>
  hello + event(parts(part(tool), part('safe', { index: 1, id: 'call_1' }))) + end,
);

// Framing.
chatStream('BOM at the start', PASSES, (tool) => BOM + plain(tool));
chatStream('BOM before a later event', REFUSED, (tool) => hello + BOM + event(call(tool)) + end);
chatStream('BOM between data lines', REFUSED, (tool) => `${hello}: x\n${BOM}${event(call(tool))}${end}`);
chatStream('CR only', PASSES, (tool) => plain(tool).replaceAll('\n', '\r'));
chatStream('CRLF', PASSES, (tool) => plain(tool).replaceAll('\n', '\r\n'));
chatStream('LF, CR and CRLF mixed', PASSES, (tool) =>
  hello + event(call(tool)).replace('\n\n', '\r\r\n') + finish.replace('\n\n', '\r\n\r') + DONE,
);
chatStream('unterminated tail', REFUSED, (tool) => hello + event(call(tool)).trimEnd());
chatStream('unterminated tail with one line end', REFUSED, (tool) => `${hello}${event(call(tool)).trimEnd()}\n`);
chatStream('no [DONE]', PASSES, (tool) => hello + event(call(tool)) + finish);
chatStream('data after [DONE]', REFUSED, (tool) => hello + DONE + event(call(tool)) + end);
chatStream('[DONE] with more behind it', REFUSED, (tool) => `${hello}data: [DONE] x\n\n${event(call(tool))}${end}`);
chatStream('[DONE] with a space behind it', REFUSED, (tool) => `${hello}data: [DONE] \n\n${event(call(tool))}${end}`);
chatStream('[done] in lower case', REFUSED, (tool) => `${hello}data: [done]\n\n${event(call(tool))}${end}`);
chatStream('[DONE] without a space, then data', REFUSED, (tool) => `${hello}data:[DONE]\n\n${event(call(tool))}${end}`);
chatStream('two spaces after the colon', PASSES, (tool) => plain(tool).replaceAll('data: {', 'data:  {'));
chatStream('no space after the colon', PASSES, (tool) => plain(tool).replaceAll('data: ', 'data:'));
chatStream('tab after the colon', PASSES, (tool) => plain(tool).replaceAll('data: {', 'data:\t{'));
chatStream('space before data', PASSES, (tool) => `${hello} ${event(call(tool))}${end}`);
chatStream('space between data and the colon', PASSES, (tool) =>
  hello + event(call(tool)).replace('data:', 'data :') + end,
);
chatStream('DATA in capitals', PASSES, (tool) => hello + event(call(tool)).replace('data:', 'DATA:') + end);
chatStream('JSON over two data lines', PASSES, (tool) =>
  hello + event(call(tool)).replace('"delta"', '\ndata: "delta"') + end,
);
chatStream('several data lines, each a chunk', REFUSED, (tool) =>
  `${hello}data: ${JSON.stringify(call('safe'))}\n${event(call(tool))}${end}`,
);
for (const [name, character] of [
  ['U+2028', '\u2028'],
  ['U+0085', '\u0085'],
  ['vertical tab', '\v'],
  ['form feed', '\f'],
  ['CR', '\r'],
]) {
  chatStream(`${name} in a comment, then data`, character === '\r' ? PASSES : REFUSED, (tool) =>
    `${hello}: hidden${character}${event(call(tool))}${event(call(tool))}${end}`.replace(
      // Where the character ends the line, the call is there twice.
      event(call(tool)) + event(call(tool)),
      event(call(tool)),
    ),
  );
}
chatStream('event: and id: and retry: lines around it', PASSES, (tool) =>
  `retry: 1\n\n${hello}id: 7\nevent: message\n${event(call(tool))}${end}`,
);
chatStream('event: keepalive', PASSES, (tool) => `${hello}event: keepalive\n${event(call(tool))}${end}`);
chatStream('event: thread.message.delta', PASSES, (tool) =>
  `${hello}event: thread.message.delta\n${event(call(tool))}${end}`,
);
chatStream('text/plain', REFUSED, plain, { type: 'text/plain' });
chatStream('no content type', REFUSED, plain, { type: null });
chatStream('content type in capitals', PASSES, plain, { type: 'TEXT/EVENT-STREAM; Charset=UTF-8' });
chatStream('the content type of JSON', REFUSED, plain, { type: JSON_TYPE });
chatStream('status 201', PASSES, plain, { status: 201 });

// The name of a call.
chatStream('name split in two', REFUSED, (tool) => {
  const [first, second] = half(tool);
  return hello + event(call(first)) + event(parts({ index: 0, function: { name: second } })) + end;
});
chatStream('second name', REFUSED, (tool) =>
  hello + event(call('safe')) + event(parts({ index: 0, function: { name: tool === 'safe' ? 'safer' : tool } })) + end,
);
chatStream('second name under another id', REFUSED, (tool) =>
  hello + event(call('safe')) + event(call(tool, { id: 'call_1' })) + end,
);
chatStream('same index twice in a chunk', REFUSED, (tool) =>
  hello + event(parts(part('safe'), part(tool, { id: 'call_1' }))) + end,
);
chatStream('same name twice', PASSES, (tool) =>
  hello + event(call(tool)) + event(parts({ index: 0, function: { arguments: '' } })) + end,
);
chatStream('name, then an empty one', PASSES, (tool) =>
  hello + event(call(tool, { args: '' })) + event(parts({ index: 0, function: { name: '', arguments: '{}' } })) + end,
);
chatStream('name only after the arguments', PASSES, (tool) =>
  hello +
  event(parts({ index: 0, id: 'call_0', type: 'function', function: { arguments: '{}' } })) +
  event(parts({ index: 0, function: { name: tool } })) +
  end,
);
chatStream('name with a NUL', REFUSED, (tool) => hello + event(call(`${tool}\0`)) + end);
chatStream('name with a space', REFUSED, (tool) => hello + event(call(` ${tool}`)) + end);
chatStream('name with a lone surrogate', REFUSED, (tool) => rawCall(fields(`${half(tool).join('\\ud800')}`, 0)));
chatStream('name escaped', PASSES, (tool) =>
  rawCall(fields([...tool].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join(''), 0)),
);
chatStream('name in an array', REFUSED, (tool) => rawCall(fields(tool, 0).replace(`"${tool}"`, `["${tool}"]`)));

// The index of a call.
chatStream('no index', PASSES, (tool) => hello + event(call(tool, { index: undefined })) + end);
chatStream('no index, twice', REFUSED, (tool) =>
  hello + event(call('safe', { index: undefined })) + event(parts({ function: { name: tool, arguments: '{}' } })) + end,
);
for (const [name, index] of [
  ['negative', '-1'],
  ['minus zero', '-0'],
  ['float', '0.0'],
  ['float of an exponent', '0e0'],
  ['string', '"0"'],
  ['null', 'null'],
  ['true', 'true'],
  ['huge', '9007199254740992'],
  ['NaN', 'NaN'],
]) {
  chatStream(`index: ${name}`, index === 'null' ? undefined : REFUSED, (tool) => rawCall(fields(tool, index)));
}
chatStream('negative index after an allowed call', REFUSED, (tool) =>
  hello + event(call('safe')) + event(call(tool, { index: -1, id: 'call_1' })) + end,
);
chatStream('a gap before the index', PASSES, (tool) => hello + event(call(tool, { index: 5 })) + end);

// The place of a call.
chatStream('call in choice 1', REFUSED, (tool) =>
  hello + event(chunk(choice({ tool_calls: [part(tool)] }, { index: 1 }))) + end,
);
chatStream('call in the second of two choices', REFUSED, (tool) =>
  hello + event(chunk(choice({ content: 'x' }), choice({ tool_calls: [part(tool)] }, { index: 1 }))) + end,
);
chatStream('two choices with one index', REFUSED, (tool) =>
  hello + event(chunk(choice({ content: 'x' }), choice({ tool_calls: [part(tool)] }))) + end,
);
chatStream('message inside a chunk', PASSES, (tool) =>
  hello +
  event(
    chunk({
      ...choice({}, { finish: 'tool_calls' }),
      message: { role: 'assistant', content: null, tool_calls: [part(tool, { index: undefined })] },
    }),
  ) +
  DONE,
);
chatStream('function_call', PASSES, (tool) =>
  hello +
  event(chunk(choice({ function_call: { name: tool, arguments: '{}' } }))) +
  event(chunk(choice({}, { finish: 'function_call' }))) +
  DONE,
);
chatStream('function_call, name split', REFUSED, (tool) => {
  const [first, second] = half(tool);
  return (
    hello +
    event(chunk(choice({ function_call: { name: first, arguments: '' } }))) +
    event(chunk(choice({ function_call: { name: second, arguments: '{}' } }))) +
    event(chunk(choice({}, { finish: 'function_call' }))) +
    DONE
  );
});
chatStream('function_call beside an allowed call', PASSES, (tool) =>
  hello + event(chunk(choice({ tool_calls: [part('safe')], function_call: { name: tool, arguments: '{}' } }))) + end,
);
chatStream('custom', PASSES, (tool) =>
  hello + event(parts({ index: 0, id: 'call_0', type: 'custom', custom: { name: tool, input: 'x' } })) + end,
);
chatStream('custom beside function', REFUSED, (tool) =>
  hello + event(parts({ ...part('safe'), custom: { name: tool, input: 'x' } })) + end,
);
chatStream('function beside custom', REFUSED, (tool) =>
  hello + event(parts({ ...part(tool), type: 'custom', custom: { name: 'safe', input: 'x' } })) + end,
);
chatStream('type FUNCTION', undefined, (tool) => hello + event(parts({ ...part(tool), type: 'FUNCTION' })) + end);
chatStream('no type', PASSES, (tool) => hello + event(parts({ ...part(tool), type: undefined })) + end);
chatStream('choices beside error', PASSES, (tool) =>
  hello + event({ ...call(tool), error: { message: 'overloaded', code: 502 } }) + end,
);
chatStream('choices beside an empty error', PASSES, (tool) => hello + event({ ...call(tool), error: {} }) + end);
chatStream('error, then a call', undefined, (tool) =>
  hello + event({ error: { message: 'overloaded', type: 'server_error' } }) + event(call(tool)) + end,
);
chatStream('an array of chunks', REFUSED, (tool) => hello + event([call(tool)]) + end);

// JSON that readers disagree on.
chatStream('duplicate name', REFUSED, (tool) =>
  rawCall(fields(tool, 0).replace('"name"', '"name":"safe","name"')),
);
chatStream('duplicate name, the first is meant', REFUSED, (tool) =>
  rawCall(fields(tool, 0).replace(`"name":"${tool}"`, `"name":"${tool}","name":"safe"`)),
);
chatStream('duplicate name, escaped', REFUSED, (tool) =>
  rawCall(fields(tool, 0).replace('"name"', '"name":"safe","n\\u0061me"')),
);
chatStream('duplicate choices', REFUSED, (tool) =>
  hello + event(raw(fields(tool, 0)).replace('"choices"', '"choices":[],"choices"')) + end,
);
chatStream('duplicate delta, escaped', REFUSED, (tool) =>
  hello + event(raw(fields(tool, 0)).replace('"delta"', '"delta":{},"d\\u0065lta"')) + end,
);
chatStream('key in another case', REFUSED, (tool) =>
  rawCall(fields(tool, 0).replace('"name"', '"name":"safe","Name"')),
);
chatStream('NaN elsewhere', REFUSED, (tool) => hello + event(raw(fields(tool, 0)).replace('1700000000', 'NaN')) + end);
chatStream('bad JSON, then a call', REFUSED, (tool) => `${hello}data: {oops\n\n${event(call(tool))}${end}`);
chatStream('an empty data line, then a call', undefined, (tool) => `${hello}data:\n\n${event(call(tool))}${end}`);
chatStream('two documents in an event', REFUSED, (tool) =>
  hello + event(JSON.stringify(call('safe')) + JSON.stringify(call(tool))) + end,
);
chatStream('BOM inside data', REFUSED, (tool) => hello + event(BOM + JSON.stringify(call(tool))) + end);
chatStream('__proto__', undefined, (tool) => rawCall(fields(tool, 0).replace('"id"', '"__proto__":{},"id"')));
chatStream('invalid UTF-8 elsewhere', REFUSED, (tool) =>
  Buffer.concat([
    Buffer.from(hello.replace('hello"', 'hel')).subarray(0, hello.indexOf('hello') + 3),
    Buffer.from([0xff]),
    Buffer.from(hello.slice(hello.indexOf('hello') + 3)),
    Buffer.from(event(call(tool)) + end),
  ]),
);

// ----------------------------------------------------------------- chat JSON

const message = (tool, index = 0) => ({
  index,
  message: { role: 'assistant', content: null, tool_calls: [part(tool, { index: undefined })] },
  finish_reason: 'tool_calls',
});
const completion = (...choices) => ({
  ...envelope,
  object: 'chat.completion',
  choices,
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
});
const answer = (tool) => JSON.stringify(completion(message(tool)));
const utf16 = (text, mark) => Buffer.from((mark ? BOM : '') + text, 'utf16le');
const gzip = (text) => gzipSync(Buffer.from(text));

chatStream('a JSON answer', undefined, answer, { type: JSON_TYPE });
chatStream('a JSON answer under the type of a stream', undefined, answer);
chatStream('gzip', REFUSED, (tool) => gzip(plain(tool)), { headers: { 'content-encoding': 'gzip' } });
chatStream('gzip without its header', REFUSED, (tool) => gzip(plain(tool)));
chatStream('an unknown encoding', REFUSED, plain, { headers: { 'content-encoding': 'x-none' } });
chatJson('one call', PASSES, answer);
chatJson('text/plain', REFUSED, answer, { type: 'text/plain' });
chatJson('text/json', REFUSED, answer, { type: 'text/json' });
chatJson('application/problem+json', PASSES, answer, { type: 'application/problem+json' });
chatJson('no content type', REFUSED, answer, { type: null });
chatJson('a stream', undefined, plain, { type: SSE });
chatJson('a stream under the type of JSON', REFUSED, plain);
chatJson('UTF-8 BOM', undefined, (tool) => BOM + answer(tool));
chatJson('UTF-16 with BOM', REFUSED, (tool) => utf16(answer(tool), true));
chatJson('UTF-16 without BOM', REFUSED, (tool) => utf16(answer(tool), false));
chatJson('UTF-16 by its charset', REFUSED, (tool) => utf16(answer(tool), false), {
  type: 'application/json; charset=utf-16le',
});
chatJson('gzip', REFUSED, (tool) => gzip(answer(tool)), { headers: { 'content-encoding': 'gzip' } });
chatJson('gzip twice', REFUSED, (tool) => gzipSync(gzip(answer(tool))), {
  headers: { 'content-encoding': 'gzip, gzip' },
});
chatJson('gzip without its header', REFUSED, (tool) => gzip(answer(tool)));
chatJson('gzip header over plain JSON', REFUSED, answer, { headers: { 'content-encoding': 'gzip' } });
chatJson('an unknown encoding', REFUSED, answer, { headers: { 'content-encoding': 'x-none' } });
for (const status of [301, 302, 303, 307, 308]) {
  chatJson(`redirect ${status}`, REFUSED, answer, { status, headers: { location: 'REDIRECT' } });
}
chatJson('status 203', PASSES, answer, { status: 203 });
chatJson('error beside choices', PASSES, (tool) =>
  JSON.stringify({ error: { message: 'overloaded' }, ...completion(message(tool)) }),
);
chatJson('call in choice 1', REFUSED, (tool) => JSON.stringify(completion(message('safe'), message(tool, 1))));
chatJson('function_call', PASSES, (tool) =>
  JSON.stringify(
    completion({
      index: 0,
      message: { role: 'assistant', content: null, function_call: { name: tool, arguments: '{}' } },
      finish_reason: 'function_call',
    }),
  ),
);
chatJson('custom', PASSES, (tool) =>
  JSON.stringify(
    completion({
      index: 0,
      message: {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: 'call_0', type: 'custom', custom: { name: tool, input: 'x' } }],
      },
      finish_reason: 'tool_calls',
    }),
  ),
);
chatJson('duplicate name', REFUSED, (tool) => answer(tool).replace('"name"', '"name":"safe","name"'));
chatJson('duplicate name, escaped', REFUSED, (tool) => answer(tool).replace('"name"', '"name":"safe","n\\u0061me"'));
chatJson('duplicate message', REFUSED, (tool) =>
  answer(tool).replace('"message"', '"message":{"role":"assistant","content":"x"},"message"'),
);
chatJson('NaN', REFUSED, (tool) => answer(tool).replace('1700000000', 'NaN'));
chatJson('lone surrogate in the name', REFUSED, (tool) =>
  answer(tool).replace(`"${tool}"`, `"${half(tool).join('\\ud800')}"`),
);
chatJson('type FUNCTION', undefined, (tool) => answer(tool).replace('"type":"function"', '"type":"FUNCTION"'));

// ----------------------------------------------------------------- responses

const item = (name, more = {}) => ({
  type: 'function_call',
  id: 'fc_1',
  call_id: 'call_1',
  name,
  arguments: '{}',
  status: 'completed',
  ...more,
});
const response = (status, output = [], more = {}) => ({
  id: 'resp_1',
  object: 'response',
  created_at: 1700000000,
  status,
  error: null,
  incomplete_details: null,
  instructions: null,
  metadata: {},
  model: 'm',
  output,
  parallel_tool_calls: true,
  temperature: 1,
  tool_choice: 'auto',
  tools: [],
  top_p: 1,
  usage: {
    input_tokens: 1,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 1,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 2,
  },
  ...more,
});
// Events as the provider sends them: named, and numbered from 0.
const events = (...all) =>
  all
    .map(({ event: name, ...data }, number) => {
      const { type, ...rest } = data;
      return `event: ${name ?? type}\ndata: ${JSON.stringify({ type, sequence_number: number, ...rest })}\n\n`;
    })
    .join('');
const of = (status, output, more) => ({ type: `response.${status}`, response: response(status, output, more) });
const created = { type: 'response.created', response: response('in_progress', [], { usage: null }) };
const added = (value, output_index = 0) => ({
  type: 'response.output_item.added',
  output_index,
  item: { ...value, ...(value.arguments === undefined ? {} : { arguments: '' }), status: 'in_progress' },
});
const args = (output_index = 0) => ({
  type: 'response.function_call_arguments.delta',
  item_id: 'fc_1',
  output_index,
  delta: '{}',
});
const argsDone = (name) => ({
  type: 'response.function_call_arguments.done',
  item_id: 'fc_1',
  output_index: 0,
  ...(name ? { name } : {}),
  arguments: '{}',
});
const done = (value, output_index = 0) => ({ type: 'response.output_item.done', output_index, item: value });
const called = (first, second = first, last = second) =>
  events(created, added(item(first)), args(), argsDone(), done(item(second)), of('completed', [item(last)]));

responsesStream('one call', PASSES, (tool) => called(tool));
responsesStream('call only in completed', undefined, (tool) => events(created, of('completed', [item(tool)])));
responsesStream('call only in incomplete', undefined, (tool) =>
  events(created, of('incomplete', [item(tool)], { incomplete_details: { reason: 'max_output_tokens' } })),
);
responsesStream('call only in failed', undefined, (tool) =>
  events(created, of('failed', [item(tool)], { error: { code: 'server_error', message: 'x' } })),
);
responsesStream('call only in in_progress', undefined, (tool) =>
  events(created, of('in_progress', [item(tool)]), of('completed', [])),
);
responsesStream('call only in created', undefined, (tool) =>
  events({ ...created, response: response('in_progress', [item(tool)]) }, of('completed', [])),
);
responsesStream('call only in queued', undefined, (tool) =>
  events(created, of('queued', [item(tool)]), of('completed', [])),
);
responsesStream('call only as done', undefined, (tool) => events(created, done(item(tool)), of('completed', [])));
responsesStream('added safe, done evil', PASSES, (tool) => called('safe', tool));
responsesStream('added and done safe, completed evil', PASSES, (tool) => called('safe', 'safe', tool));
responsesStream('a second call in completed', undefined, (tool) =>
  events(
    created,
    added(item('safe')),
    args(),
    argsDone(),
    done(item('safe')),
    of('completed', [item('safe'), item(tool, { id: 'fc_2', call_id: 'call_2' })]),
  ),
);
responsesStream('name in arguments.done', PASSES, (tool) =>
  events(created, added(item('safe')), args(), argsDone(tool), done(item('safe')), of('completed', [item('safe')])),
);
responsesStream('events after completed', REFUSED, (tool) =>
  events(created, of('completed', []), added(item(tool)), args(), done(item(tool)), of('completed', [item(tool)])),
);
responsesStream('events after completed and [DONE]', REFUSED, (tool) =>
  events(created, of('completed', [])) + DONE + called(tool),
);
responsesStream('[DONE] at the end', PASSES, (tool) => called(tool) + DONE);
responsesStream('event name contradicts the type', PASSES, (tool) =>
  events(
    created,
    { ...added(item(tool)), event: 'response.output_text.delta' },
    { ...args(), event: 'ping' },
    { ...done(item(tool)), event: 'response.created' },
    { ...of('completed', [item(tool)]), event: 'keepalive' },
  ),
);
responsesStream('no event names', PASSES, (tool) => called(tool).replace(/^event: .*\n/gm, ''));
responsesStream('duplicate type', REFUSED, (tool) =>
  called(tool).replace('{"type":"response.output_item.done"', '{"type":"x","type":"response.output_item.done"'),
);
responsesStream('no type', REFUSED, (tool) =>
  events(created) + event({ sequence_number: 1, output_index: 0, item: item(tool) }) + events(of('completed', [])),
);
responsesStream('unknown *_call', undefined, (tool) => {
  const value = { ...item(tool), type: tool === 'safe' ? 'function_call' : 'brand_new_call' };
  return events(created, added(value), done(value), of('completed', [value]));
});
responsesStream('custom_tool_call', PASSES, (tool) => {
  const value = { type: 'custom_tool_call', id: 'fc_1', call_id: 'call_1', name: tool, input: 'x' };
  return events(created, added(value), done(value), of('completed', [value]));
});
responsesStream('hosted call that nobody asked for', PASSES, (tool) => {
  const value =
    tool === 'safe'
      ? item(tool)
      : { type: 'web_search_call', id: 'ws_1', status: 'completed', action: { type: 'search', query: 'x' } };
  return events(created, added(value), done(value), of('completed', [value]));
});
responsesStream('namespace', PASSES, (tool) => {
  const value = item('safe', tool === 'safe' ? {} : { namespace: 'admin' });
  return events(created, added(value), args(), argsDone(), done(value), of('completed', [value]));
});
responsesStream('nested error, then completed', undefined, (tool) =>
  events(
    created,
    { type: 'error', error: { message: 'x', type: 'server_error', code: 'x', param: null } },
    of('completed', [item(tool)]),
  ),
);
responsesStream('flat error, then a call', undefined, (tool) =>
  events(created, { type: 'error', code: 'x', message: 'x', param: null }) + called(tool),
);
responsesStream('arguments before the item', undefined, (tool) =>
  events(created, args(), argsDone(), added(item(tool)), done(item(tool)), of('completed', [item(tool)])),
);
responsesStream('same output index twice', REFUSED, (tool) =>
  events(
    created,
    added(item('safe')),
    added(item(tool, { id: 'fc_2', call_id: 'call_2' })),
    args(),
    done(item(tool, { id: 'fc_2', call_id: 'call_2' })),
    of('completed', [item(tool, { id: 'fc_2', call_id: 'call_2' })]),
  ),
);
responsesStream('duplicate name', REFUSED, (tool) =>
  called(tool).replaceAll('"name"', '"name":"safe","name"'),
);
responsesStream('unterminated tail', REFUSED, (tool) => {
  const last = events(of('completed', [item(tool)])).trimEnd();
  return events(created) + last;
});
responsesStream('BOM before a later event', REFUSED, (tool) =>
  events(created) + BOM + called(tool).replace(/^event: .*\n/gm, ''),
);
responsesStream('CR only', PASSES, (tool) => called(tool).replaceAll('\n', '\r'));
responsesStream('text/plain', REFUSED, (tool) => called(tool), { type: 'text/plain' });
responsesJson('one call', PASSES, (tool) => JSON.stringify(response('completed', [item(tool)])));
responsesJson('incomplete', PASSES, (tool) =>
  JSON.stringify(response('incomplete', [item(tool)], { incomplete_details: { reason: 'max_output_tokens' } })),
);
responsesJson('unknown *_call', PASSES, (tool) =>
  JSON.stringify(
    response('completed', [{ ...item(tool), type: tool === 'safe' ? 'function_call' : 'brand_new_call' }]),
  ),
);
responsesJson('namespace', PASSES, (tool) =>
  JSON.stringify(response('completed', [item('safe', tool === 'safe' ? {} : { namespace: 'admin' })])),
);
responsesJson('duplicate output', REFUSED, (tool) =>
  JSON.stringify(response('completed', [item(tool)])).replace('"output"', '"output":[],"output"'),
);
responsesJson('text/plain', REFUSED, (tool) => JSON.stringify(response('completed', [item(tool)])), {
  type: 'text/plain',
});
responsesJson('UTF-16', REFUSED, (tool) => utf16(JSON.stringify(response('completed', [item(tool)])), true));

// ---------------------------------------------------------------------- file

export const FILE = fileURLToPath(new URL('streams.json', import.meta.url));
export const text = `${JSON.stringify(cases, null, 1)}\n`;
export { cases };

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const names = new Set(cases.map(({ name }) => name));
  if (names.size !== cases.length) throw new Error('two cases have one name');
  writeFileSync(FILE, text);
  console.log(`${cases.length} answers`);
}

// What a provider answers on the Responses API, whole and as the events of a stream.

// Envelope values are fixed, so that two answers to one request are equal.
export const FIXED = { id: 'chatcmpl-conformance', created: 1700000000 };

export function outputItems({ content, toolCalls = [] }) {
  const items = [];
  if (content) {
    const part = { type: 'output_text', annotations: [], logprobs: [], text: content };
    items.push({ id: 'msg_conformance', type: 'message', status: 'completed', content: [part], role: 'assistant' });
  }
  for (const { id, name, arguments: args } of toolCalls) {
    items.push({ id: `fc_${id}`, type: 'function_call', status: 'completed', arguments: args, call_id: id, name });
  }
  return items;
}

export function responseObject(request, status, output) {
  const usage = {
    input_tokens: 9,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 12,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 21,
  };
  return {
    id: 'resp_conformance',
    object: 'response',
    created_at: FIXED.created,
    status,
    background: false,
    error: null,
    incomplete_details: null,
    instructions: request.instructions ?? null,
    max_output_tokens: null,
    model: request.model,
    output,
    parallel_tool_calls: true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    store: true,
    temperature: 1,
    text: { format: request.text?.format ?? { type: 'text' }, verbosity: 'medium' },
    tool_choice: request.tool_choice ?? 'auto',
    tools: request.tools ?? [],
    top_p: 1,
    truncation: 'disabled',
    usage: status === 'completed' ? usage : null,
    metadata: {},
  };
}

export function* responseEvents(request, output, split = (text) => pieces(text, 20)) {
  for (const type of ['response.created', 'response.in_progress']) {
    yield { type, response: responseObject(request, 'in_progress', []) };
  }
  for (const [output_index, item] of output.entries()) {
    const at = { item_id: item.id, output_index };
    const added = { ...item, status: 'in_progress' };
    if (item.type === 'message') {
      const [part] = item.content;
      const inside = { ...at, content_index: 0 };
      yield { type: 'response.output_item.added', output_index, item: { ...added, content: [] } };
      yield { type: 'response.content_part.added', ...inside, part: { ...part, text: '' } };
      for (const delta of split(part.text)) {
        yield { type: 'response.output_text.delta', ...inside, delta, logprobs: [], obfuscation: 'x7' };
      }
      yield { type: 'response.output_text.done', ...inside, text: part.text, logprobs: [] };
      yield { type: 'response.content_part.done', ...inside, part };
    } else {
      yield { type: 'response.output_item.added', output_index, item: { ...added, arguments: '' } };
      for (const delta of pieces(item.arguments, 5)) {
        yield { type: 'response.function_call_arguments.delta', ...at, delta, obfuscation: 'x7' };
      }
      yield { type: 'response.function_call_arguments.done', ...at, arguments: item.arguments };
    }
    yield { type: 'response.output_item.done', output_index, item };
  }
  yield { type: 'response.completed', response: responseObject(request, 'completed', output) };
}

// No piece ends inside a character.
export const pieces = (text, size) => text.match(new RegExp(`.{1,${size}}`, 'gsu')) ?? [];

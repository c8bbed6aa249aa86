// docs/sdks.md, from the cells of a run.

const FORMS = [
  ['chat', 'plain', 'chat'],
  ['chat', 'stream', 'chat, streamed'],
  ['responses', 'plain', 'Responses'],
  ['responses', 'stream', 'Responses, streamed'],
];

const HEAD = `# SDKs

What users of seven SDKs see through \`sekuire-gateway\`. \`tests/conformance/matrix.mjs\` runs all of this with the newest
version of each, unmodified and with its default retries, and writes this file: \`.ci/run\` fails by the name of the cell
that no longer holds, and when anything here but a version number is no longer so.

Attempts are HTTP requests that reached the gateway. A policy's refusal takes one. A rate limit is waited for by the SDK
itself, no shorter than the gateway says, and then answered.

`;

// Rows that differ only in where they were seen are one row.
function grouped(cells, shownOf) {
  const groups = new Map();
  for (const cell of cells) {
    const shown = shownOf(cell);
    const key = JSON.stringify(shown);
    if (!groups.has(key)) groups.set(key, { shown, forms: [] });
    groups.get(key).forms.push(FORMS.find(([api, form]) => api === cell.api && form === cell.form)[2]);
  }
  return [...groups.values()].map(({ shown, forms }) => ({ shown, where: whereOf(forms.join('; '), cells.length, forms.length) }));
}

function whereOf(forms, all, these) {
  if (all === these) return all === 2 ? 'streams' : 'everywhere';
  return { 'chat; Responses': 'plain', 'chat, streamed; Responses, streamed': 'streamed' }[forms] ?? forms;
}

function shownOf({ kind, told, attempts }) {
  if (kind === 'rate') return ['the answer, after the wait', '', '', attempts.length];
  if (kind === 'cancel') return [told.shown ?? 'the stream ends', '', '', attempts.length];
  const { error, asPart } = told;
  const what = `${code(error.class)}${asPart ? ', in a part `error`' : ''}`;
  const where = error.where.includes(' ') ? error.where : code(error.where);
  return [what, `${code(error.code)} at ${where}`, code(error.message), attempts.length];
}

// Two ticks around what holds one; a bar would end the table's cell.
function code(text) {
  const shown = text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  return shown.includes('`') ? `\`\` ${shown} \`\`` : `\`${shown}\``;
}

const table = (rows) => rows.map((row) => `| ${row.join(' | ')} |\n`).join('');
const rule = (columns) => Array(columns).fill('---');

export function documentOf({ sdks, cells, features, refusals, versions }) {
  let text = `${HEAD}## What works\n\n`;
  text += '✓: on chat completions and on Responses, plain and streamed; embeddings have one form.\n\n';
  const rows = [['', ...sdks.map(({ title }) => title)], rule(sdks.length + 1)];
  const reasons = new Set();
  for (const [kind, { title }] of Object.entries(features)) {
    rows.push([
      title,
      ...sdks.map(({ leaves }) => {
        if (!leaves?.[kind]) return '✓';
        reasons.add(`—: ${title}: ${leaves[kind]}.`);
        return '—';
      }),
    ]);
  }
  text += `${table(rows)}\n${[...reasons].join('\n')}\n`;
  for (const { id, title } of sdks) {
    text += `\n## ${title}: ${versions[id]}\n\n`;
    const lines = [['', 'where', 'what the user gets', "the rule's code", 'message', 'attempts'], rule(6)];
    for (const [kind, row] of Object.entries({ ...refusals, cancel: features.cancel })) {
      const own = cells.filter((cell) => cell.sdk.id === id && cell.kind === kind);
      for (const { shown, where } of grouped(own, shownOf)) lines.push([row.title, where, ...shown]);
    }
    text += table(lines);
  }
  return text;
}

// Where two runs differ in other than versions, each by its SDK and its row.
export function changesOf(committed, now) {
  const lines = { '-': withoutVersions(committed).split('\n'), '+': withoutVersions(now).split('\n') };
  const changes = new Map();
  for (const [sign, other] of [['-', '+'], ['+', '-']]) {
    // With its section: rows of two SDKs may be alike.
    const elsewhere = new Set(named(lines[other]));
    for (const line of named(lines[sign])) {
      if (elsewhere.has(line)) continue;
      const [heading, text] = line.split('\n');
      const cell = [heading, /^\| ([^|]*) \|/.exec(text)?.[1] ?? 'text'].join(', ');
      changes.set(cell, `${changes.get(cell) ?? ''}      ${sign} ${text}\n`);
    }
  }
  // The same lines in another order.
  if (!changes.size && lines['-'].join() !== lines['+'].join()) changes.set('order', '      rows in another order\n');
  return [...changes].map(([cell, text]) => ({ cell, text: text.trimEnd() }));
}

function named(lines) {
  let heading = 'head';
  return lines.map((line) => {
    if (line.startsWith('## ')) heading = line.slice(3);
    return `${heading}\n${line}`;
  });
}

const withoutVersions = (text) => text.replace(/^(## .*): [0-9].*$/gm, '$1');

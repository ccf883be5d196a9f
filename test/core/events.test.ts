/** The documentation of events is generated from the code. `ESCAPEMENT_TABLE=write` rewrites it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { eventNames } from '../../src/core/events.ts';

const page = new URL('../../docs/events.md', import.meta.url);
const source = readFileSync(new URL('../../src/core/events.ts', import.meta.url), 'utf8');

test('docs/events.md matches the catalogue and payloads in src/core/events.ts', () => {
  const rows = source
    .split('\n')
    .filter((line) => line.startsWith(' * |'))
    .map((line) => line.slice(3));
  const named = rows.slice(2).flatMap((row) => (row.split('|')[1] ?? '').split(',').map((name) => name.trim()));
  expect([...named].sort()).toEqual([...eventNames].sort());
  const payloads = /\/\*\* The payload of each event[\s\S]*?\n}\n/.exec(source)?.[0].split('\n').slice(1).join('\n').trim();
  const shared = /interface JobEvent \{[\s\S]*?(?=\/\*\* The severity)/.exec(source)?.[0].trim();
  const text = `# Events

\`tasks.on(name, listener)\` calls a listener for one kind of event of this process, and \`tasks.on('*', listener)\` for every kind. It returns a function that removes
the listener. With \`{ fleet: true }\`, the listener also receives events of other processes that use the same store, of the kinds that
[README](../README.md#hooks) lists. If a listener throws, the error is logged and has no other effect. Every event has \`type\` and \`at\`.

${rows.join('\n')}

## Payloads

\`\`\`ts
${shared}

${payloads}
\`\`\`
`;
  if (process.env.ESCAPEMENT_TABLE === 'write') writeFileSync(page, text);
  expect(readFileSync(page, 'utf8')).toBe(text);
});

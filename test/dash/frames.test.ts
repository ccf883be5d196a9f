/**
 * Golden frames of every view at 80×24 and 140×40: the shop on the evening of its gateway's outage. `ESCAPEMENT_FRAMES=write` rewrites the
 * frames; review the changes.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { renderFrame } from '../../cli/dash/app.tsx';
import { themes } from '../../cli/dash/theme.ts';
import { simulation, tasks } from '../../fixtures/shop/tasks.ts';
import { type Played, played } from './played.ts';
import { svgOf } from './svg.ts';

const folder = new URL('../../fixtures/frames/', import.meta.url);
const sizes = [
  { columns: 80, rows: 24 },
  { columns: 140, rows: 40 },
];
const views: Readonly<Record<string, readonly string[]>> = {
  overview: [],
  jobs: ['2', 'down', 'x', 'x', 'up'],
  'jobs-failed': ['2', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
  job: ['3', 'return'],
  retries: ['3', 'down'],
  schedules: ['4', 'down'],
  workers: ['5'],
  events: ['6'],
  outbox: ['7', 'down'],
  mail: ['7', 'return'],
  help: ['?'],
  filter: ['2', '/', 'p', 'a', 'y'],
  enqueue: ['E', 'm', 'a', 'i'],
  confirm: ['3', 'x', 'x', 'C'],
};

let shop: Played;
beforeAll(async () => {
  shop = await played(tasks, simulation, '2026-03-24T00:00:00Z');
  await shop.to('2026-03-24T17:41:30Z');
});
afterAll(() => shop.end());

describe.each(sizes)('at $columns×$rows', ({ columns, rows }) => {
  test.each(Object.keys(views))('%s', async (name) => {
    const state = await shop.look({ columns, rows }, ...(views[name] as readonly string[]));
    const lines = renderFrame(state, themes.plain).map((line) => stripVTControlCharacters(line).trimEnd());
    expect(lines).toHaveLength(rows);
    const file = new URL(`${name}-${columns}x${rows}.txt`, folder);
    const text = `${lines.join('\n')}\n`;
    if (process.env.ESCAPEMENT_FRAMES === 'write') {
      mkdirSync(fileURLToPath(folder), { recursive: true });
      writeFileSync(file, text);
    }
    expect(text).toBe(readFileSync(file, 'utf8'));
  });
});

test.each(['overview', 'job', 'retries', 'schedules'])('the SVG of %s matches its text frame', async (name) => {
  const state = await shop.look({ columns: 110, rows: 26 }, ...(views[name] as readonly string[]));
  const file = new URL(`${name}.svg`, folder);
  const text = svgOf(state, `escapement dev: ${name}`);
  if (process.env.ESCAPEMENT_FRAMES === 'write') writeFileSync(file, text);
  expect(text).toBe(readFileSync(file, 'utf8'));
});

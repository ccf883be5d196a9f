/** The checker of `npm run torture` detects each violation, and tolerates the effects of killed processes. */
import { expect, test } from 'vitest';
import { check, type End, type Harm, type Line } from '../bench/torture/check.ts';

const lines = (text: string): Line[] =>
  text.split(', ').map((line, i) => {
    const [process = '', what = '', ...ids] = line.split(' ');
    return { at: i, what, ids, process };
  });
const seen = (text: string, harms: readonly Harm[] = [], end: Partial<End> = {}) =>
  check(lines(text), harms, { failed: [], left: 0, hasLimit: true, ...end }).violations;
const killed: Harm = { process: 'p', from: 3, to: Number.POSITIVE_INFINITY };
const job = 'p asked a, p acknowledged a';

test.each([
  ['lost', `${job}`],
  ['again', `${job}, p begun a, p ended a, p settled a, q begun a, q ended a`],
  ['twice at once', `${job}, p begun a, q begun a, q ended a`],
  ['over the limit', 'p asked one-1 one-2, p begun one-1, q begun one-2'],
  ['ended twice', `${job}, p begun a, p ended a, p settled a, q settled a`],
  ['not enqueued', 'p begun a'],
  ['uncaught', 'p uncaught oh'],
])('%s', (kind, text) => {
  expect(seen(text)).toEqual([expect.stringMatching(new RegExp(`^${kind}: `))]);
});

test('reports stuck jobs, and jobs that failed for any reason other than three lost workers', () => {
  const end = { left: 2, failed: [{ id: 'a', why: 'permanent' }] };
  expect(seen(job, [], end)).toEqual(['failed: a (permanent)', 'stuck: 2 jobs have not ended']);
  expect(seen(job, [], { failed: [{ id: 'a', why: 'poisoned' }] })).toEqual([]);
});

test('jobs of killed or paused workers may run again, and their interrupted runs do not count', () => {
  expect(seen(`${job}, p begun a, q begun a, q ended a, q settled a`, [killed])).toEqual([]);
  expect(seen('p asked one-1 one-2, p acknowledged one-2, p begun one-1, q begun one-2, q ended one-2', [killed])).toEqual([]);
});

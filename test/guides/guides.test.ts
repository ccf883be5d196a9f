/** Plays the applications that docs/migrating.md shows in virtual time. */
import { readFileSync } from 'node:fs';
import { simulate } from 'escapement/testing';
import { expect, test } from 'vitest';
import * as bullmq from './bullmq.ts';
import * as celery from './celery.ts';
import * as nodeCron from './node-cron.ts';
import * as pgBoss from './pg-boss.ts';

test('Celery: a group of chains with a chord, retries, and beat', async () => {
  celery.outside.pages.set('a', 'one two').set('b', 'three');
  celery.outside.fails = 2;
  await using sim = await simulate(celery.tasks, { now: '2026-01-01T00:00:00Z' });
  await celery.crawl(['a', 'b', 'missing']);
  await sim.advance('1h');
  expect(celery.outside.reports).toEqual([3]);
  await sim.advanceTo('2026-01-01T02:30:00Z');
  await sim.drain();
  expect(celery.outside.reports).toEqual([3, 3]);
  expect(sim.attempts(celery.fetchPage)).toHaveLength(7);
});

test('BullMQ: delays, own ids, a flow, a repeated job and a limiter', async () => {
  await using sim = await simulate(bullmq.tasks, { now: '2026-01-01T00:00:00Z' });
  await bullmq.addJobs();
  await sim.drain();
  expect(bullmq.outside.sent).toEqual(['ada', 'eve']);
  expect(bullmq.outside.rendered).toEqual(['page 1, page 2']);
  await sim.advance('5m');
  expect(bullmq.outside.sent).toEqual(['ada', 'eve', 'bob']);
  await sim.advanceTo('2026-01-01T08:00:00Z');
  await sim.drain();
  expect(bullmq.outside.sent.at(-1)).toBe('team');
});

test('node-cron: time zones, seconds, and no overlap', async () => {
  nodeCron.outside.takes = 26 * 3_600_000;
  await using sim = await simulate(nodeCron.tasks, { now: '2026-01-01T00:00:00Z' });
  await sim.advance('1m');
  expect(nodeCron.outside.pings).toBe(2);
  await sim.advanceTo('2026-01-02T06:00:00Z');
  // The second night was skipped: the first backup was still running.
  expect(nodeCron.outside.backups).toEqual(['2026-01-01T02:00:00.000Z']);
});

test('pg-boss: send, send after, insert, singletons and a schedule', async () => {
  await using sim = await simulate(pgBoss.tasks, { now: '2026-01-01T00:00:00Z' });
  await pgBoss.send();
  await sim.drain();
  expect(pgBoss.outside.exported).toEqual([1, 3, 4]);
  expect(pgBoss.outside.synced).toEqual(['a']);
  await sim.advanceTo('2026-01-01T02:00:00Z');
  await sim.drain();
  expect(pgBoss.outside.exported).toEqual([1, 3, 4, 2, 0]);
});

test.each(['celery', 'bullmq', 'node-cron', 'pg-boss'])('the guide shows the application of %s', (name) => {
  const file = readFileSync(new URL(`./${name}.ts`, import.meta.url), 'utf8');
  const [, code = ''] = /\/\/ guide: [\w-]+\n([\s\S]*?)\/\/ end\n/.exec(file) ?? [];
  const guide = readFileSync(new URL('../../docs/migrating.md', import.meta.url), 'utf8');
  expect(code.trim().length).toBeGreaterThan(100);
  expect(guide).toContain(`\`\`\`ts\n${code.trim()}\n\`\`\``);
});

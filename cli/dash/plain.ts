/** The dashboard without a terminal, as in a pipe or on a build server: lines of plain text without escape codes. */
import { width } from '../format.ts';
import type { Io } from '../io.ts';
import type { Session } from './dashboard.ts';
import type { Feed } from './feed.ts';
import { reduce } from './reduce.ts';
import { requestOf, Source } from './source.ts';
import { type EventItem, initialState } from './state.ts';
import { clockTime, type Line } from './text.ts';
import { header } from './views/chrome.ts';
import { overview } from './views/overview.ts';

export function isInteractive({ stdout, env }: Pick<Io, 'stdout' | 'env'>): boolean {
  return stdout.isTTY && process.stdin.isTTY === true && !env.CI && env.TERM !== 'dumb';
}

export function localZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
}

interface Place {
  readonly label: string;
  readonly zone: string;
  readonly cwd: string;
  readonly now: () => number;
}

const plainWide = 100;

/** The overview, read once. */
export async function overviewLines(
  { tasks, store, hasEvents, shared }: Session,
  feed: Feed,
  { label, zone, cwd, now }: Place,
): Promise<string[]> {
  const state = initialState({ columns: plainWide, rows: 60, label, write: false, clock: null, zone, now: now() });
  const data = await new Source(tasks, { now, feed, hasEvents, shared, store, cwd }).read(requestOf(state));
  const read = { ...reduce(state, { type: 'read', now: state.now, data }), rowsDown: { ...state.rowsDown, overview: -1 } };
  return [header(read, plainWide), ...overview(read, plainWide, data.queues ? data.queues.length + 24 : 24)].map(textOf);
}

export function textOf({ spans }: Line): string {
  return spans
    .map(({ text }) => text)
    .join('')
    .trimEnd();
}

/** An event as one line. */
export function eventLine({ at, type, task, job, worker, text }: EventItem, zone: string): string {
  const cells = [
    clockTime(at, zone),
    type.padEnd(12),
    task + ' '.repeat(Math.max(0, 20 - width(task))),
    job === '' ? '' : `…${job.slice(-6)}`,
    worker,
    text,
  ];
  return cells.join('  ').trimEnd();
}

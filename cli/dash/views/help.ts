/** The keys of the present view, from the same table that they are bound by, and what its words and numbers mean. */
import { padEnd } from '../../format.ts';
import { bindingsOf, keyText } from '../keys.ts';
import type { State, ViewName } from '../state.ts';
import { blank, filled, type Line, line, span } from '../text.ts';

/** Every word at the head of a column. */
export const meanings: Readonly<Record<ViewName, readonly (readonly [string, string])[]>> = {
  overview: [
    ['ready', 'jobs that are due and wait for a worker'],
    ['running', 'attempts under way / slots of live workers that serve the queue'],
    ['sched', 'jobs that are due later, or wait for others'],
    ['retry', 'jobs that failed and will be tried again'],
    ['failed', 'jobs that failed for good, until they are pruned'],
    ['done', 'jobs that were successful, until they are pruned'],
    ['oldest', 'how long the oldest ready job has waited'],
    ['per min', 'jobs that ended in the last 60 s'],
    ['×', 'jobs that failed alike, of the 200 latest failures'],
    ['last … min', 'jobs that ended, minute by minute; the highest bar is the busiest'],
  ],
  jobs: [
    ['status', '◌ waiting ○ scheduled ● ready ▶ running ↻ retrying ✓ ✗ ⊘ ended'],
    ['tries', 'attempts used / attempts allowed'],
    ['prio', 'larger is first; -100 to 100'],
    ['age', 'since it was enqueued'],
    ['by …', 'other orders than newest look at the 1,000 newest that match'],
  ],
  job: [
    ['attempt', 'number, worker, when it began, how long it took, how it ended'],
    ['backoff', 'the waits to come if each attempt fails, without jitter'],
  ],
  retries: [
    ['tries', 'attempts used / attempts allowed; red: the next one is the last'],
    ['↻', 'where on the axis the next attempt falls'],
    ['· and ✗', 'the attempts after it, and the last one, if each fails'],
  ],
  schedules: [
    ['next in', 'until the next occurrence; ⚠ the clocks change on that day'],
    ['last', 'how the last job ended, and how long it took'],
    ['0 6 12 18', 'the local day: ✓ ✗ what ran, ○ what is to come, ┼ now'],
  ],
  workers: [
    ['heard of', 'since its last heartbeat; workers that share a store beat every 10 s'],
    ['slots', 'attempts under way / attempts at a time, at its last heartbeat'],
    ['silent', 'neither said goodbye nor was heard of for 30 s'],
  ],
  outbox: [
    ['state', 'queued and deferred wait; held is kept here and not sent'],
    ['refused', 'no address got it, or its attempts are used up'],
    ['dropped', 'cancelled before it was sent'],
    ['to', 'empty until a worker has built the mail'],
  ],
  mail: [
    ['accepted', 'addresses for which the server took the mail'],
    ['not', 'addresses that got nothing, and why'],
    ['text', 'kept of mails that are held, or with keepBodies'],
  ],
  events: [
    ['what', 'the names are those of tasks.on'],
    ['printed', 'what the module wrote to the console'],
  ],
};

export function help(state: State, wide: number, high: number): readonly Line[] {
  const shown = bindingsOf(state).filter(({ keys }) => !/^[2-7]$|^shift-tab$/.test(keys[0] ?? ''));
  const keyLines = shown.map((binding): Line => {
    const [key, text] = binding.keys[0] === '1' ? ['1 … 7', 'the views'] : [keyText(binding), binding.help];
    return line(span(` ${padEnd(key, 6)}`, binding.only === 'write' ? 'warn' : 'key'), span(` ${text}`));
  });
  const words = meanings[state.view].map(([word, text]) => line(span(` ${padEnd(word, 11)}`, 'strong'), span(text, 'calm')));
  const perRow = wide >= 120 ? 3 : wide >= 60 ? 2 : 1;
  const rows = Math.ceil(keyLines.length / perRow);
  const each = Math.floor(wide / perRow);
  const keys = Array.from({ length: rows }, (_, row) => ({
    spans: Array.from({ length: perRow }, (_column, c) => filled(keyLines[row + c * rows] ?? blank, each).spans).flat(),
  }));
  const lines = [
    line(span(' What it means', 'title')),
    ...words,
    blank,
    line(span(' Keys; upper-case ones change something', 'title')),
    ...keys,
  ];
  const from = Math.min(state.helpDown, Math.max(0, lines.length - high));
  const left = lines.length - from - high;
  const seen = lines.slice(from, from + high);
  return left > 0 && high > 2 ? [...seen.slice(0, -1), line(span(` ↓ ${left + 1} more`, 'dim'))] : seen;
}

/** The help: the keys of the current view, from the table of bindings, and the meaning of its columns and symbols. */
import { padEnd } from '../../format.ts';
import { bindingsOf, keyText } from '../keys.ts';
import type { State, ViewName } from '../state.ts';
import { blank, filled, type Line, line, span } from '../text.ts';

/** The meaning of every column title. */
export const meanings: Readonly<Record<ViewName, readonly (readonly [string, string])[]>> = {
  overview: [
    ['ready', 'jobs that are due and wait for a worker'],
    ['running', 'attempts in progress / slots of live workers, or the limit'],
    ['sched', 'jobs due later, or waiting for other jobs'],
    ['retry', 'jobs that failed and will be retried'],
    ['failed', 'jobs that failed permanently, until they are pruned'],
    ['done', 'successful jobs, until they are pruned'],
    ['oldest', 'how long the oldest ready job has waited'],
    ['per min', 'jobs that finished in the last 60 s'],
    ['×', 'jobs with the same error, among the 200 latest failures'],
    ['last … min', 'jobs finished in each minute; the highest bar is the busiest'],
  ],
  jobs: [
    ['status', '◌ waiting ○ scheduled ● ready ▶ running ↻ retrying ✓ ✗ ⊘ ended'],
    ['tries', 'attempts used / attempts allowed'],
    ['prio', '-100 to 100; higher runs first'],
    ['age', 'time since it was enqueued'],
    ['by …', 'sorts only the 1,000 newest matching jobs'],
  ],
  job: [
    ['attempt', 'number, worker, start, duration and outcome'],
    ['backoff', 'the remaining delays if each attempt fails, without jitter'],
  ],
  retries: [
    ['tries', 'attempts used / attempts allowed; red: the next one is the last'],
    ['↻', 'the next attempt, on the time axis'],
    ['· and ✗', 'later attempts, and the last one, if each fails'],
  ],
  schedules: [
    ['next in', 'time until the next occurrence; ⚠ the clocks change that day'],
    ['last', 'outcome and duration of the last job'],
    ['0 6 12 18', 'the local day: ✓ ✗ past jobs, ○ upcoming jobs, ┼ now'],
  ],
  workers: [
    ['last seen', 'time since its last heartbeat; sent every 10 s if the store is shared'],
    ['slots', 'attempts in progress / maximum at a time, at its last heartbeat'],
    ['silent', 'no heartbeat for 30 s, and no clean shutdown'],
  ],
  outbox: [
    ['state', 'queued and deferred wait to be sent; held are not sent'],
    ['refused', 'no address was accepted, or all attempts are used up'],
    ['dropped', 'cancelled before it was sent'],
    ['to', 'empty until a worker has built it'],
  ],
  mail: [
    ['accepted', 'addresses that the server accepted'],
    ['not', 'addresses that were not accepted, and why'],
    ['text', 'kept for held emails, or with keepBodies'],
  ],
  events: [
    ['what', 'event names, as in tasks.on()'],
    ['printed', 'console output of the module'],
  ],
};

export function help(state: State, wide: number, high: number): readonly Line[] {
  const shown = bindingsOf(state).filter(({ keys }) => !/^[2-7]$|^shift-tab$/.test(keys[0] ?? ''));
  const keyLines = shown.map((binding): Line => {
    const [key, text] = binding.keys[0] === '1' ? ['1 … 7', 'switch views'] : [keyText(binding), binding.help];
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
    line(span(' Keys; upper-case keys make changes', 'title')),
    ...keys,
  ];
  const from = Math.min(state.helpDown, Math.max(0, lines.length - high));
  const left = lines.length - from - high;
  const seen = lines.slice(from, from + high);
  return left > 0 && high > 2 ? [...seen.slice(0, -1), line(span(` ↓ ${left + 1} more`, 'dim'))] : seen;
}

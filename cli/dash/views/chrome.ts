/** The frame around every view: the header, the tabs, and at the bottom prompts, notices and keys. */

import { clean, count, shorten, width } from '../../format.ts';
import { wallTime } from '../../time.ts';
import { keyText, offered } from '../keys.ts';
import { parts } from '../prompt.ts';
import { tabOf } from '../reduce.ts';
import { type State, type TabName, viewNames } from '../state.ts';
import { clockTime, ends, filled, type Line, line, type Span, span, widthOf, wrapped } from '../text.ts';
import { type Mark, marks, type Role } from '../theme.ts';

const titles: Readonly<Record<TabName, string>> = {
  overview: 'Overview',
  jobs: 'Jobs',
  retries: 'Retries',
  schedules: 'Schedules',
  workers: 'Workers',
  events: 'Events',
  outbox: 'Outbox',
};

export function header(state: State, wide: number): Line {
  const { label, clock, now, zone, data, write } = state;
  const { weekday, date, time, offset } = wallTime(now, zone);
  const clockText = `${date} ${time.length === 5 ? `${time}:00` : time} ${zone === 'UTC' ? 'UTC' : offset}`;
  const virtual: Span[] = clock
    ? [span(`${clock.playing ? '▶' : '‖'} ${speedText(clock.speed)}`, clock.playing ? 'good' : 'warn'), span('  ')]
    : [];
  const when: Span[] = [
    ...virtual,
    span(wide >= 70 ? `${weekday} ` : '', 'dim'),
    span(wide < 34 ? clockText.slice(11, 19) : clockText, 'strong'),
  ];
  if (clock) {
    const day = Math.floor((now - clock.startedAt) / 86_400_000) + 1;
    when.push(
      span(wide >= 90 ? `  day ${count(day)}` : '', 'dim'),
      span(wide >= 100 && clock.seed !== null ? `  seed ${clock.seed}` : '', 'dim'),
    );
    when.push(span(clock.until === null ? '' : `  ${clock.until}`, 'warn'));
  }
  const live = data.workers.filter(({ state: standing }) => standing === 'running' || standing === 'stopping');
  const running = data.queues.reduce((sum, { counts }) => sum + counts.running, 0);
  const slots = live.reduce((sum, one) => sum + one.concurrency, 0);
  const right =
    Object.keys(state.read).length === 0
      ? [span('loading … ', 'dim')]
      : live.length === 0
        ? [span('no worker ', 'bad')]
        : [span('● ', 'good'), span(`${live.length === 1 ? 'worker' : `${live.length} workers`} ${running}/${slots} `)];
  const name = clean(label.split('/').slice(-2).join('/'));
  const before = span(wide >= 90 ? ' escapement ' : ' ', 'accent');
  const after = [span(write ? '   ' : '  read-only   ', 'dim'), ...when];
  // The name is cut; the time and the workers stay.
  const room = Math.max(6, wide - widthOf([before, ...after, ...right]) - 2);
  const left = wide < 60 ? [span(' '), ...when] : [before, span(` ${shorten(name, room, 'middle')}`, 'strong'), ...after];
  return ends(left, right, wide);
}

export function speedText(speed: number): string {
  return Number.isFinite(speed) ? `×${speed}` : 'max';
}

export function tabs(state: State, wide: number): Line {
  const here = tabOf(state);
  const short = wide < 90;
  const spans = viewNames.flatMap((name, i): Span[] => {
    const text = `${i + 1} ${short && name !== here ? titles[name].slice(0, 3) : titles[name]}`;
    return [span(name === here ? `[${text}]` : ` ${text} `, name === here ? 'accent' : 'dim'), span(short ? '' : ' ')];
  });
  return ends(spans, [span('? keys ', 'dim')], wide);
}

/** The lines above the footer: an error of the module, a question or a notice. Usually empty; wrapped if there is room. */
export function banner(state: State, wide: number, high: number): readonly Line[] {
  const { confirm, notice, fault, busy, unread, zone } = state;
  const maxLines = high >= 12 ? 4 : 1;
  if (busy !== null) return [filled(line(span(` ◂◂ ${busy}   `, 'warn'), span('esc', 'key'), span(' stops', 'dim')), wide)];
  if (confirm?.counting) return [filled(line(span(` ${confirm.question}`, 'warn'), span('   n', 'key'), span(' no')), wide)];
  if (confirm)
    return [filled(line(span(` ${confirm.question} `, 'warn'), span(' y', 'key'), span(' yes   '), span('n', 'key'), span(' no')), wide)];
  if (notice?.kind === 'done') return noticeLines(marks.successful, 'text', clean(notice.text), wide, maxLines);
  if (notice) return noticeLines(marks.failed, 'bad', clean(notice.text), wide, maxLines);
  if (unread) {
    const text = `no data since ${clockTime(unread.since, zone)}: ${clean(unread.text)}`;
    return noticeLines(marks.failed, 'bad', text, wide, maxLines);
  }
  if (!fault) return [];
  const lines = noticeLines(marks.failed, 'bad', clean(fault.join(' ')), wide, maxLines);
  return maxLines === 1
    ? lines
    : [filled(line(span('   the module cannot be loaded; the previous version keeps running', 'dim')), wide), ...lines];
}

function noticeLines({ glyph, role: glyphRole }: Mark, role: Role, text: string, wide: number, maxLines: number): readonly Line[] {
  return wrapped(text, Math.max(1, wide - 4), maxLines).map((one, i) =>
    filled(line(span(i === 0 ? ` ${glyph} ` : '   ', glyphRole), span(one, role)), wide),
  );
}

const questions = {
  filter: 'filter /',
  task: 'enqueue a job of ',
  input: 'input (JSON) ',
  goto: 'skip to ',
  rewind: 'rewind to ',
  priority: 'priority ',
} as const;

/** The input line, with its cursor always visible, and the hint or verdict below it. */
export function promptLines(state: State, wide: number): readonly Line[] {
  const { prompt } = state;
  if (!prompt) return [];
  const question = span(` ${prompt.kind === 'input' ? `${clean(prompt.task ?? '')} ` : ''}${questions[prompt.kind]}`, 'key');
  const chars = parts(prompt.text);
  const room = Math.max(4, wide - width(question.text) - 2);
  let from = 0;
  while (width(chars.slice(from, prompt.at + 1).join('')) > room) from += 1;
  const under = chars[prompt.at];
  const typed = [
    span(chars.slice(from, prompt.at).join('')),
    span('▏', 'accent'),
    span(under === undefined ? '' : chars.slice(prompt.at).join('')),
  ];
  const { verdict } = prompt;
  const below = verdict
    ? span(` ${verdict.ok ? '✓' : '✗'} ${clean(verdict.text)}`, verdict.ok ? 'good' : 'bad')
    : span(` ${hintOf(state)}`, 'dim');
  return [filled(line(below), wide), filled(line(question, ...typed), wide)];
}

function hintOf({ prompt, data }: State): string {
  if (prompt?.kind === 'task') {
    const matching = data.tasks.filter((name) => name.includes(prompt.text));
    return matching.length === 0 ? 'no matching task' : `${matching.map(clean).join('  ')}   Tab completes`;
  }
  if (prompt?.kind === 'goto') return '09:00 · 2026-03-29 · 2026-03-29T04:00:00Z · +90m';
  if (prompt?.kind === 'rewind') return '1h · 09:00 · 2026-03-29T04:00:00Z   your actions up to then are replayed';
  if (prompt?.kind === 'priority') return '-100 to 100, higher runs first   ⏎ apply, esc cancel';
  if (prompt?.kind === 'filter') return 'words, status:failed queue:mail task:… tag:… schedule:…   ⏎ apply, esc cancel';
  return 'JSON; empty means null   ⏎ enqueue, esc cancel';
}

/** The most important keys that fit, in the order of the table. */
export function foot(state: State, wide: number): Line {
  const hints = offered(state).flatMap((binding) =>
    binding.hint === undefined ? [] : [{ binding, spans: hintSpans(keyText(binding), binding.hint) }],
  );
  let room = wide - 8;
  const kept = new Set<unknown>();
  for (const { binding, spans } of [...hints].sort((a, b) => (a.binding.rank ?? 9) - (b.binding.rank ?? 9))) {
    const needed = widthOf(spans);
    if (needed > room) continue;
    room -= needed;
    kept.add(binding);
  }
  const spans = hints.flatMap(({ binding, spans: own }) => (kept.has(binding) ? own : []));
  return filled(line(' ', ...spans, span('?', 'key'), span(' keys', 'dim')), wide);
}

function hintSpans(key: string, hint: string): Span[] {
  return [span(key, 'key'), span(` ${hint}   `, 'dim')];
}

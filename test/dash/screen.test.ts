/** Any state on any screen: lines have exactly the right width, and contain no terminal control characters from data. */
import { describe, expect, test } from 'vitest';
import { renderFrame } from '../../cli/dash/app.tsx';
import { press } from '../../cli/dash/keys.ts';
import { reduce } from '../../cli/dash/reduce.ts';
import { emptyData, type State, viewNames } from '../../cli/dash/state.ts';
import { wrapped } from '../../cli/dash/text.ts';
import { colourLevel, type Environment, marks, themeFor, themes } from '../../cli/dash/theme.ts';
import { screen } from '../../cli/dash/views/screen.ts';
import { width } from '../../cli/format.ts';
import { jobNamed, now, queueNamed, sample, scheduleNamed } from './sample.ts';

const views = [...viewNames, 'job'] as const;
const sizes = [
  [20, 5],
  [1, 1],
  [9, 3],
  [40, 10],
  [80, 24],
  [140, 40],
  [200, 60],
] as const;
const evil = '\u001b]0;pwned\u0007\u001b[2J\u009b31m\u202egnp.exe\u2066\u200f x\r\ny';
const odd = '日本語タスク👩‍👩‍👧 e\u0301te\u0301 ﷽ 한국어';

function full(columns: number, rows: number, text: string): State {
  const state = sample(columns, rows);
  const job = jobNamed(0, {
    id: `job-0${text}`,
    task: text,
    error: text,
    reason: text,
    queue: text,
    tags: [text],
    worker: text,
    progress: text,
  });
  const history = [{ attempt: 1, worker: text, startedAt: now - 9_000, endedAt: now, outcome: 'failed', error: text, frames: [text] }];
  return {
    ...state,
    label: text,
    jobId: `job-0${text}`,
    busy: text === evil ? text : null,
    fault: [text],
    data: {
      ...state.data,
      queues: [queueNamed(text, { paused: true }), queueNamed('mail')],
      coming: [{ at: now + 5_000, status: 'retrying', name: text, note: text, job: null }],
      failures: [{ ...job, times: 12 }],
      full: [text],
      jobs: { items: [job, ...state.data.jobs.items], cursor: 'c', note: text },
      job: {
        ...job,
        fault: [text],
        input: [text],
        returned: [text],
        history,
        log: [{ at: now, level: text, text }],
        facts: [[text, text]],
        steps: [{ at: now, name: text, text }],
        tree: [
          { lead: '', text, status: null, isThis: false },
          { lead: '└─ ', text, status: 'running', isThis: true },
        ],
      },
      retries: [job],
      schedules: [scheduleNamed(text, { words: text, task: text, why: text, clocks: text, state: 'paused' })],
      workers: [
        {
          id: text,
          host: text,
          pid: 7,
          version: text,
          state: text,
          queues: text,
          concurrency: 10,
          running: 3,
          startedAt: now,
          heartbeatAt: now,
          jobs: [{ id: 'job-0', task: text, since: now }],
        },
      ],
      events: [{ seq: 1, at: now, type: 'failed', task: text, job: `job-0${text}`, worker: text, text }],
      tasks: [text],
    },
  };
}

describe.each(sizes)('at %i×%i', (columns, rows) => {
  test.each(views)('%s fits with any content', (view) => {
    for (const text of ['plain', odd, evil, '']) {
      for (const help of [false, true]) {
        const lines = screen({ ...full(columns, rows, text), view, help });
        expect(lines).toHaveLength(rows);
        for (const { spans } of lines) expect(width(spans.map((one) => one.text).join(''))).toBe(columns);
      }
    }
    expect(screen({ ...sample(columns, rows), data: emptyData, view })).toHaveLength(rows);
  });

  test('questions, results and prompts fit too', () => {
    const state = full(columns, rows, odd);
    expect(screen({ ...state, view: 'job', data: { ...state.data, job: 'gone' } })).toHaveLength(rows);
    const prompt = { kind: 'input', text: odd.repeat(9), at: 40, task: odd, verdict: { ok: false, text: evil }, write: null } as const;
    for (const change of [
      { prompt },
      { confirm: { question: evil, write: { kind: 'jobs', verb: 'retry', which: [] }, counting: false } },
      { notice: { kind: 'error', text: evil, keys: 3 } },
    ] satisfies Partial<State>[]) {
      for (const { spans } of screen({ ...state, ...change })) expect(width(spans.map((one) => one.text).join(''))).toBe(columns);
    }
  });
});

test.each(views)('%s contains no terminal control characters from data', (view) => {
  const frame = renderFrame({ ...full(140, 40, evil), view }, themes.sixteen).join('\n');
  // The remaining escape codes are the theme's own colours.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const own = frame.replace(/\u001b\[[0-9;]*m/g, '');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const obeyed = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/;
  expect(own.replaceAll('\n', '')).not.toMatch(obeyed);
});

test('a status has a glyph as well as a colour', () => {
  const glyphs = Object.values(marks).map(({ glyph }) => glyph);
  expect(new Set(glyphs).size).toBe(glyphs.length);
});

test.each([
  [{ NO_COLOR: '1', TERM: 'xterm-256color' }, 'plain'],
  [{ TERM: 'dumb' }, 'plain'],
  [{ TERM: 'xterm' }, 'sixteen'],
  [{ TERM: 'xterm-256color' }, 'dark'],
  [{ TERM: 'xterm', COLORTERM: 'truecolor' }, 'dark'],
  [{ TERM: 'xterm-256color', COLORFGBG: '0;15' }, 'light'],
] satisfies [Environment, string][])('%j selects the %s theme', (env, name) => {
  expect(themeFor(env).name).toBe(name);
});

test('the plain theme has no colour', () => {
  expect(Object.values(themes.plain.roles).filter(({ color }) => color !== undefined)).toEqual([]);
  expect([colourLevel({ TERM: 'xterm' }), colourLevel({ TERM: 'xterm-256color' }), colourLevel({ COLORTERM: 'truecolor' })]).toEqual([
    1, 2, 3,
  ]);
});

const textOf = (state: State) =>
  screen(state)
    .map(({ spans }) => spans.map(({ text }) => text).join(''))
    .join('\n');
const facts = /no worker|no queue|nothing|none\b|no job|no schedule|no event/;

test.each(viewNames)('%s does not report missing data before the first read', (view) => {
  const empty = { ...sample(80, 24), view, data: emptyData };
  expect(textOf({ ...empty, read: {} })).not.toMatch(facts);
  expect(textOf({ ...empty, read: {} })).toMatch(/loading …\s*$/m);
  const read = reduce({ ...empty, read: {} }, { type: 'read', now, data: {} });
  expect(textOf(read)).toMatch(facts);
  expect(textOf(read)).not.toContain('loading');
  expect(textOf(reduce(read, { type: 'began' }))).not.toMatch(facts);
});

test('data of another filter is not shown', () => {
  const jobs = reduce({ ...sample(80, 24), view: 'jobs' }, { type: 'read', now, data: {} });
  const other = reduce(jobs, { type: 'status', by: 1 });
  expect(textOf(other)).toMatch(/loading …/);
  expect(textOf(reduce(other, { type: 'read', now, data: {} }))).toMatch(/no matching jobs/);
  const events = reduce({ ...sample(80, 24), view: 'events', eventText: 'failed' }, { type: 'read', now, data: {} });
  expect(textOf(events)).toMatch(/no matching events/);
});

describe('a job', () => {
  const words = Array.from({ length: 120 }, (_, i) => `word${i}`);
  const long = [`Error: ${words.join(' ')}`, 'x'.repeat(200)];
  const input = JSON.stringify(Object.fromEntries(words.map((word) => [word, word])), null, 2).split('\n');
  const yesterday = now - 86_400_000;
  const detail = {
    ...jobNamed(0, { status: 'failed', task: 'a.task.whose.name.is.longer.than.a.screen.of.eighty.columns.can.ever.be.wide' }),
    fault: long,
    input,
    returned: null,
    history: [
      { attempt: 1, worker: 'w0', startedAt: yesterday, endedAt: yesterday + 5, outcome: 'failed', error: long.join(' '), frames: [] },
    ],
    log: [{ at: yesterday, level: 'info', text: 'hello' }],
    facts: [],
    steps: [],
    tree: [],
  };
  const state: State = { ...sample(80, 24), view: 'job', jobId: 'job-0', data: { ...emptyData, job: detail } };
  const scrolled = (from: State) => {
    const seen: string[] = [];
    for (let at = from; ; ) {
      seen.push(...textOf(at).split('\n'));
      const next = press(at, 'pagedown');
      if (next === at) return seen.map((line) => line.trim()).join('\n');
      at = next;
    }
  };

  test('shows its error before its input; both are collapsed until expanded', () => {
    const text = textOf(state);
    expect(text.indexOf('error ')).toBeLessThan(text.indexOf('input '));
    expect(text.match(/▸ \d+ more lines, ⏎ expands/g)).toHaveLength(2);
    const all = scrolled(press(state, 'return'));
    for (const word of words) expect(all, word).toMatch(new RegExp(`\\b${word}\\b`));
    expect(all.replace(/\s/g, '')).toContain('x'.repeat(200));
    expect(
      all
        .trimEnd()
        .split('\n')
        .some((line) => line.endsWith('hello')),
    ).toBe(true);
  });

  test('keeps its status visible, and shows dates and seconds of events on other days', () => {
    expect(textOf(state)).toMatch(/failed {2}attempt 1 of 5 *$/m);
    const all = scrolled(state);
    expect(all).toMatch(/1 +w0 +Sat 01:12:40/);
    expect(all).toMatch(/log +Sat 01:12:40 {2}hello/);
  });
});

test('a long module name does not hide the workers at 80 columns', () => {
  const state = { ...sample(80, 24), label: 'a/folder/with-a-name-that-is-longer-than-there-is-room-for-at-eighty-columns.ts' };
  expect(textOf(state).split('\n')[0]).toMatch(/01:12:40 UTC .*no worker *$/);
});

test('a module error is readable on a narrow screen', () => {
  const fault = [
    'tasks.ts:12 cannot be read: Unexpected token `=`. Expected an identifier, void, yield, null, await, break, a string literal, or a numeric literal',
  ];
  const lines = screen({ ...sample(80, 24), fault }).map(({ spans }) =>
    spans
      .map(({ text }) => text)
      .join('')
      .trim(),
  );
  expect(lines.join(' ')).toContain(fault[0]?.slice(0, 60));
  expect(lines.join(' ').replace(/\s+/g, ' ')).toContain('a string literal, or a numeric literal');
  expect(lines.at(-1)).toMatch(/keys$/);
  const small = screen({ ...sample(40, 8), fault }).map(({ spans }) =>
    spans
      .map(({ text }) => text)
      .join('')
      .trim(),
  );
  expect(small.at(-2)).toMatch(/^✗ tasks\.ts:12 cannot be read: Un.*…$/);
});

test('text wraps between words, and is truncated only on its last line', () => {
  expect(wrapped('one two three', 7, 4)).toEqual(['one two', 'three']);
  expect(wrapped('one two three four', 7, 2)).toEqual(['one two', 'three …']);
  expect(wrapped('incomprehensible', 7, 4)).toEqual(['incomp…']);
  expect(wrapped('日本 語タ', 5, 4)).toEqual(['日本', '語タ']);
  expect(wrapped('', 5, 4)).toEqual(['']);
});

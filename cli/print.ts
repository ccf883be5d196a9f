/** Prints the report: outcomes by task, activity, schedules, failures, and the module's expectation. */
import {
  bars,
  type Cell,
  clean,
  cleanLines,
  count,
  lineWidth,
  type Paint,
  padEnd,
  padStart,
  plural,
  scale,
  shorten,
  table,
} from './format.ts';
import type { Counts, Group, Report } from './report.ts';
import { dayMs, exactDuration, hourMs, instantText, shortDuration, wallTime } from './time.ts';

/** The report in lines of at most 100 columns, without a final newline. */
export function printReport(report: Report, paint: Paint): string {
  const sections = [
    heading(report, paint),
    tasksTable(report, paint),
    activity(report, paint),
    schedules(report, paint),
    reasons('retried', report.retried, paint, report),
    reasons('failed', report.failed, paint, report),
    reasons('cancelled', report.cancelled, paint, report),
    outbox(report, paint),
    verdict(report, paint),
  ];
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n');
}

function heading(report: Report, paint: Paint): string[] {
  const facts = [
    `${exactDuration(report.durationMs)} of virtual time`,
    report.seed === null ? 'no seed' : `seed ${report.seed}`,
    `${plural(report.workers, 'worker')} × ${report.concurrency}`,
    ...(report.crashes === null ? [] : [plural(report.crashes, 'crash').replace('crashs', 'crashes')]),
  ];
  const to = instantText(Date.parse(report.to));
  return [
    `${paint('bold', clean(report.module))}   ${facts.join(' · ')}`,
    `${instantText(Date.parse(report.from)).replace(/ UTC$/, '')} → ${to}${report.interrupted ? paint('yellow', '   interrupted here') : ''}`,
  ];
}

function outbox({ mail }: Report, paint: Paint): string[] {
  if (mail.length === 0) return [];
  const columns = [
    { title: 'outbox' },
    { title: 'sent', align: 'right' as const },
    { title: 'twice', align: 'right' as const },
    { title: 'to', align: 'right' as const },
    { title: 'first' },
    { title: 'last' },
    { title: 'last subject' },
  ];
  const day = (at: string) => {
    const { weekday, time } = wallTime(Date.parse(at), 'UTC');
    return `${weekday} ${time.slice(0, 5)}`;
  };
  const rows = mail.map(({ task, sent, repeated, recipients, firstAt, lastAt, subject }) => [
    shorten(clean(task), longestTaskName, 'middle'),
    count(sent),
    repeated === 0 ? '·' : count(repeated),
    count(recipients),
    day(firstAt),
    day(lastAt),
    shorten(clean(subject), 42),
  ]);
  return table(columns, rows, paint);
}

const countColumns = ['jobs', 'attempts', 'success', 'retried', 'failed', 'cancelled', 'open'];
const longestTaskName = 24;

function tasksTable(report: Report, paint: Paint): string[] {
  const hour = hourStyle(report);
  const columns = [
    { title: 'task' },
    ...countColumns.map((title) => ({ title, align: 'right' as const })),
    { title: 'p50', align: 'right' as const },
    { title: 'p95', align: 'right' as const },
    { title: hour.title },
  ];
  const row = (name: string, counts: Counts): Cell[] => [
    counts.jobs === 0 ? { text: name, mark: 'dim' } : name,
    counts.jobs,
    counts.attempts,
    counts.successful,
    counts.retried,
    { text: counts.failed, mark: 'red' },
    counts.cancelled,
    counts.unfinished,
    wait(counts.waitP50Ms),
    wait(counts.waitP95Ms),
    counts.busiestHour ? hour.text(Date.parse(counts.busiestHour.at)) : { text: '·', mark: 'dim' },
  ];
  const rows = report.tasks.map(({ task, ...counts }) => row(shorten(task, longestTaskName, 'middle'), counts));
  const lines = table(columns, [...rows, null, row('total', report.totals)], paint);
  const title = lines[0] ?? '';
  const bare = table(columns, [...rows, null, row('total', report.totals)], (_, text) => text)[0] ?? '';
  // Two groups of columns have a title.
  const above = padEnd(padStart('wait', bare.indexOf('p50') + 3), bare.lastIndexOf(hour.title));
  return [`${paint('dim', `${above}busiest`)}`, title, ...lines.slice(1)];
}

function wait(ms: number | null): Cell {
  return ms === null || ms === 0 ? { text: ms === null ? '·' : '0', mark: 'dim' } : shortDuration(ms);
}

/** Within a week, the weekday is enough. */
function hourStyle({ durationMs }: Report): { readonly title: string; text(at: number): string } {
  const short = durationMs <= 7 * dayMs;
  return {
    title: 'hour',
    text(at) {
      const { weekday, date, time } = wallTime(at);
      return `${short ? weekday : date.slice(5)} ${time.slice(0, 2)}h`;
    },
  };
}

/** The layouts of the activity chart: columns per line and hours per column. The first one that needs at most 16 lines is used. */
interface Grid {
  readonly columns: number;
  readonly columnMs: number;
  readonly unit: string;
}
const grids: readonly Grid[] = [
  { columns: 24, columnMs: hourMs, unit: 'hour' },
  { columns: 28, columnMs: 6 * hourMs, unit: '6 hours' },
  { columns: 28, columnMs: dayMs, unit: 'day' },
  { columns: 28, columnMs: 7 * dayMs, unit: 'week' },
  { columns: 28, columnMs: 28 * dayMs, unit: '4 weeks' },
];
const maxLines = 16;

function activity(report: Report, paint: Paint): string[] {
  if (report.totals.attempts === 0) return [];
  const [from, to] = [Date.parse(report.from), Date.parse(report.to)];
  // Days begin at midnight UTC; longer lines begin on the first day of the period.
  const start = Math.floor(from / dayMs) * dayMs;
  const linesOf = ({ columns, columnMs }: Grid) => Math.max(1, Math.ceil((to - start) / (columns * columnMs)));
  const grid = grids.find((candidate) => linesOf(candidate) <= maxLines) ?? (grids.at(-1) as Grid);
  const cells = linesOf(grid) * grid.columns;
  const sums = (value: (hour: Report['hours'][number]) => number): (number | undefined)[] => {
    const all = new Array<number | undefined>(cells).fill(undefined);
    for (const hour of report.hours) {
      const index = Math.floor((Date.parse(hour.at) - start) / grid.columnMs);
      all[index] = (all[index] ?? 0) + value(hour);
    }
    return all;
  };
  const started = sums((hour) => hour.attempts);
  const failed = sums((hour) => hour.failed);
  return chart({ start, grid, started, failed }, paint);
}

interface ChartData {
  readonly start: number;
  readonly grid: Grid;
  readonly started: readonly (number | undefined)[];
  readonly failed: readonly (number | undefined)[];
}

function chart({ start, grid, started, failed }: ChartData, paint: Paint): string[] {
  const { columns, columnMs, unit } = grid;
  const [maxStarted, maxFailed] = [maximum(started), maximum(failed)];
  const rows: {
    readonly day: string;
    readonly started: readonly (number | undefined)[];
    readonly failed: readonly (number | undefined)[];
  }[] = [];
  for (let from = 0; from < started.length; from += columns) {
    const { weekday, date } = wallTime(start + from * columnMs);
    rows.push({ day: `${weekday} ${date}`, started: started.slice(from, from + columns), failed: failed.slice(from, from + columns) });
  }
  const sums = (values: (row: (typeof rows)[number]) => readonly (number | undefined)[]) => {
    const texts = rows.map((row) => (total(values(row)) === 0 ? '·' : count(total(values(row)))));
    const columns_ = Math.max(...texts.map((text) => text.length));
    return texts.map((text) => padStart(text, columns_));
  };
  const [startedSums, failedSums] = [sums((row) => row.started), sums((row) => row.failed)];
  const title = `attempts started per ${unit}, UTC`;
  const leftWidth = Math.max(title.length, columns + 2 + (startedSums[0]?.length ?? 0));
  const legend = (name: string, left: string, right: string) =>
    `${paint('bold', name)}${paint('dim', `${' '.repeat(16 - name.length)}${padEnd(left, leftWidth)}     ${right}`.trimEnd())}`;
  const ruler = '00    06    12    18';
  return [
    legend('activity', title, 'failed or lost'),
    ...(columnMs === hourMs ? [legend('', ruler, ruler)] : []),
    ...rows.map((row, i) => {
      const left = padEnd(`${bars(row.started, maxStarted)}  ${startedSums[i]}`, leftWidth);
      return `${row.day}  ${left}     ${paintBars(bars(row.failed, maxFailed), paint)}  ${failedSums[i]}`;
    }),
    legend('', scale(maxStarted), scale(maxFailed)),
  ];
}

function paintBars(text: string, paint: Paint): string {
  return text.replace(/[▁-█]+/g, (block) => paint('red', block));
}

function maximum(values: readonly (number | undefined)[]): number {
  return values.reduce<number>((max, value) => Math.max(max, value ?? 0), 0);
}

function total(values: readonly (number | undefined)[]): number {
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
}

/** Two lines for each schedule: when it fired, in its own time zone, and its rule. */
function schedules(report: Report, paint: Paint): string[] {
  if (report.schedules.length === 0) return [];
  const year = report.from.slice(0, 4);
  const lines = table(
    [{ title: 'schedule' }, { title: 'fired', align: 'right' }, { title: 'first' }, { title: 'last' }, { title: 'next' }],
    report.schedules.map(({ schedule, timezone, fired, firstAt, lastAt, nextAt }) => {
      const at = (instant: string | null): Cell => (instant ? localText(instant, timezone ?? 'UTC', year) : { text: '·', mark: 'dim' });
      return [shorten(schedule, 30, 'middle'), fired, at(firstAt), at(lastAt), at(nextAt)];
    }),
    paint,
  );
  const plans = report.schedules.map(({ schedule, task, words, cron }) => {
    const plan = [words, cron].flatMap((text) => (text === null ? [] : clean(text))).join(' · ');
    return paint('dim', shorten(`  ${plan}${schedule === task ? '' : ` → ${task}`}`, lineWidth));
  });
  return [lines[0] ?? '', ...lines.slice(1).flatMap((line, i) => [line, plans[i] ?? ''])];
}

/** `03-29 09:00 +02:00`, with the year if it differs from that of the start. */
function localText(instant: string, zone: string, year: string): string {
  const { date, time, offset } = wallTime(Date.parse(instant), zone);
  return `${date.startsWith(`${year}-`) ? date.slice(5) : date} ${time} ${offset}`;
}

const maxReasons = 10;
const reasonMarks = { retried: 'yellow', failed: 'red', cancelled: 'dim' } as const;
const nouns = { retried: 'attempt', failed: 'job', cancelled: 'job' } as const;

function reasons(kind: 'retried' | 'failed' | 'cancelled', groups: readonly Group[], paint: Paint, report: Report): string[] {
  if (groups.length === 0) return [];
  const sum = groups.reduce((all, group) => all + group.count, 0);
  const shown = groups.slice(0, maxReasons);
  const when = whenStyle(report);
  const taskWidth = Math.max(...shown.map(({ task }) => Math.min(task.length, longestTaskName)));
  const countWidth = Math.max(3, ...shown.map((group) => count(group.count).length));
  const reasonWidth = lineWidth - 2 - countWidth - 2 - taskWidth - 2 - 2 - when.width;
  const lines = shown.map((group) => {
    const what = padEnd(shorten(clean(group.what), reasonWidth), reasonWidth);
    const task = padEnd(shorten(group.task, longestTaskName, 'middle'), taskWidth);
    return `  ${padStart(count(group.count), countWidth)}  ${task}  ${what}  ${paint('dim', when.text(group))}`;
  });
  const rest = groups.slice(maxReasons);
  if (rest.length > 0) {
    const jobs = plural(
      rest.reduce((all, group) => all + group.count, 0),
      nouns[kind],
    );
    lines.push(paint('dim', `  and ${jobs} more, for ${plural(rest.length, 'other reason')}`));
  }
  return [`${paint(reasonMarks[kind], kind)}  ${plural(sum, nouns[kind])}`, ...lines];
}

/** The instants of the first and the last of a group, by weekday within a week. */
function whenStyle({ durationMs }: Report): { readonly width: number; text(group: Group): string } {
  const short = durationMs <= 7 * dayMs;
  const one = (instant: string) => {
    const { weekday, date, time } = wallTime(Date.parse(instant));
    return `${short ? weekday : date.slice(5)} ${time.slice(0, 5)}`;
  };
  return {
    width: short ? 21 : 25,
    text: ({ firstAt, lastAt }) => (one(firstAt) === one(lastAt) ? one(firstAt) : `${one(firstAt)} … ${one(lastAt)}`),
  };
}

function verdict({ expectation: { outcome, message } }: Report, paint: Paint): string[] {
  switch (outcome) {
    case 'holds':
      return [`${paint('green', '✓')} expectation met`];
    case 'none':
      return [paint('dim', 'no expectation: the module does not export simulation.expect')];
    case 'not asked':
      return [paint('yellow', 'interrupted: the expectation was not checked')];
    case 'fails': {
      const [first = '', ...rest] = cleanLines(message ?? '');
      return [`${paint('red', '✗')} expectation failed: ${paint('bold', first)}`, ...rest.map((line) => `  ${line}`)];
    }
  }
}

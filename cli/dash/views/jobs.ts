/** The view of the jobs that match the filter, in pages, newest first. */
import type { Status } from 'escapement';
import { count, plural } from '../../format.ts';
import { shortDuration } from '../../time.ts';
import { filterText } from '../filter.ts';
import type { JobItem, State } from '../state.ts';
import {
  blank,
  type Column,
  emptyLine,
  ends,
  filled,
  type Line,
  line,
  margin,
  type Span,
  since,
  span,
  statusSpan,
  table,
  until,
  windowOf,
} from '../text.ts';
import { marks } from '../theme.ts';

const shownStatuses: readonly (Status | null)[] = [
  null,
  'ready',
  'running',
  'scheduled',
  'retrying',
  'waiting',
  'successful',
  'failed',
  'cancelled',
];

export function jobs(state: State, wide: number, high: number): readonly Line[] {
  const { items, cursor, note } = state.data.jobs;
  const head = high >= 6 ? [statusLine(state, wide), filterLine(state, wide)] : [];
  if (items.length === 0) {
    const on = cursor === null ? '' : '  PgDn searches on';
    return [...head, blank, filled(emptyLine(state, `no matching jobs${note === null ? '' : `  ${note}`}${on}`), wide)];
  }
  const columns: Column<JobItem>[] = [
    ...(wide >= 100 ? [{ title: 'job', cell: ({ id }: JobItem) => span(shortId(id), 'dim') }] : []),
    { title: 'status', minWidth: 12, cell: ({ status }) => statusSpan(status, status) },
    { title: 'task', minWidth: wide >= 120 ? 28 : 18, maxWidth: wide >= 120 ? 28 : 18, cut: 'middle', cell: ({ task }) => span(task) },
    { title: 'queue', minWidth: 9, maxWidth: wide >= 120 ? 16 : 9, cut: 'middle', drop: 4, cell: ({ queue }) => span(queue, 'dim') },
    {
      title: 'prio',
      align: 'right',
      drop: wide >= 100 ? 7 : 8,
      cell: ({ priority }) => span(priority === 0 ? '·' : String(priority), 'dim'),
    },
    {
      title: 'tries',
      align: 'right',
      cell: ({ attempts, maxAttempts }) => span(`${attempts}/${maxAttempts}`, attempts > 1 ? 'warn' : 'dim'),
    },
    { title: 'age', align: 'right', minWidth: 6, drop: 5, cell: ({ enqueuedAt }) => span(since(enqueuedAt, state.now), 'dim') },
    { title: '', grows: true, cell: (job) => noteOf(job, state.now) },
  ];
  const room = Math.max(1, high - head.length - 2);
  const { from, to } = windowOf(items.length, state.rowsDown.jobs, room);
  const { head: titles, rows } = table(columns, items, wide, ({ id }, i) =>
    margin(i === state.rowsDown.jobs, state.all || state.selected.has(id) ? span('◆', 'key') : undefined),
  );
  const page = state.pages.length;
  const more =
    cursor === null ? (page === 1 ? plural(items.length, 'job') : `page ${page}, the last`) : `page ${count(page)}  PgDn for more`;
  const foot = filled(line('   ', span([more, note].filter((text) => text).join('  '), 'dim')), wide);
  return [...head, titles, ...rows.slice(from, to), ...(high >= 4 ? [foot] : [])];
}

function statusLine({ data, filter }: State, wide: number): Line {
  const counts = (status: Status) =>
    data.queues.filter(({ name }) => filter.queue === null || filter.queue === name).reduce((sum, queue) => sum + queue.counts[status], 0);
  const spans = shownStatuses.flatMap((status): Span[] => {
    const chosen = filter.status === status;
    if (status === null) return [span(chosen ? '[all]' : ' all ', chosen ? 'accent' : 'dim')];
    const total = counts(status);
    if (total === 0 && !chosen) return [];
    const short = wide < 110 ? marks[status].glyph : `${marks[status].glyph} ${status}`;
    const text = `${short} ${total >= (wide < 110 ? 1_000 : 10_000) ? `${Math.floor(total / 1_000)}k` : count(total)}`;
    return [span(chosen ? `[${text}]` : ` ${text} `, chosen ? 'accent' : marks[status].role)];
  });
  return filled(line('  ', ...spans), wide);
}

function filterLine({ filter, sort, selected, all }: State, wide: number): Line {
  const text = filterText(filter);
  const chosen = all ? 'all matching jobs are selected' : selected.size > 0 ? `${count(selected.size)} selected` : '';
  return ends(
    [span('   '), span(text === '' ? 'no filter' : `/ ${text}`, text === '' ? 'dim' : 'strong')],
    [span(chosen, 'key'), span(`   by ${sort} `, 'dim')],
    wide,
  );
}

/** The end of an id. Ids of the same time share their beginning. */
export function shortId(id: string): string {
  return `…${id.slice(-6)}`;
}

export function noteOf(job: JobItem, now: number): Span {
  switch (job.status) {
    case 'scheduled':
      return span(`in ${until(job.dueAt, now)}`, 'calm');
    case 'retrying':
      return span(`in ${until(job.dueAt, now)}  ${job.error ?? ''}`, 'warn');
    case 'failed':
      return span(job.error ?? job.reason ?? '', 'bad');
    case 'cancelled':
      return span(job.reason ?? '', 'dim');
    case 'running':
      return span(job.progress ?? (job.lastAttemptedAt === null ? '' : `for ${since(job.lastAttemptedAt, now)}`), 'busy');
    case 'successful':
      return span(
        job.finishedAt !== null && job.lastAttemptedAt !== null ? `took ${shortDuration(job.finishedAt - job.lastAttemptedAt)}` : '',
        'dim',
      );
    default:
      return span('');
  }
}

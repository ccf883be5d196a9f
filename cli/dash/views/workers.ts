/** The view of workers: state, last heartbeat, slots and running jobs. */
import { plural } from '../../format.ts';
import type { State, WorkerItem } from '../state.ts';
import {
  blank,
  type Column,
  emptyLine,
  ends,
  filled,
  type Line,
  line,
  margin,
  rule,
  type Span,
  since,
  span,
  table,
  windowOf,
} from '../text.ts';
import { marks, type Role } from '../theme.ts';
import { shortId } from './jobs.ts';

const stateRoles: Readonly<Record<string, Role>> = { running: 'good', stopping: 'warn', stopped: 'dim', silent: 'bad' };

export function workers(state: State, wide: number, high: number): readonly Line[] {
  const { workers: items } = state.data;
  const { now, rowsDown } = state;
  if (items.length === 0) return [blank, emptyLine(state, 'no workers; jobs wait until one starts', 'warn')];
  const chosen = items[rowsDown.workers];
  const foot = high >= 8 && chosen ? Math.min(Math.max(3, chosen.jobs.length + 2), Math.floor(high / 2)) : 0;
  const columns: Column<WorkerItem>[] = [
    { title: 'worker', maxWidth: wide >= 110 ? 40 : 18, cut: 'middle', cell: ({ id }) => span(id) },
    { title: 'state', minWidth: 8, cell: (one) => span(one.state, stateRoles[one.state] ?? 'text') },
    {
      title: 'last seen',
      align: 'right',
      minWidth: 8,
      cell: ({ heartbeatAt }) => span(heartbeatAt === null ? 'here' : since(heartbeatAt, now), 'dim'),
    },
    { title: 'slots', minWidth: 16, drop: 2, cell: slots },
    { title: 'queues', grows: true, drop: 4, cell: (one) => span(one.queues, 'dim') },
    { title: 'host', maxWidth: 24, drop: 5, cell: ({ host, pid }) => span(pid === 0 ? host : `${host} ${pid}`, 'dim') },
    { title: 'up', align: 'right', minWidth: 6, drop: 3, cell: ({ startedAt }) => span(since(startedAt, now), 'dim') },
  ];
  const { head, rows } = table(columns, items, wide, (_, i) => margin(i === rowsDown.workers));
  const { from, to } = windowOf(items.length, rowsDown.workers, Math.max(1, high - 1 - foot));
  return [head, ...rows.slice(from, to), ...(foot > 0 && chosen ? [rule(wide), ...jobsOf(chosen, now, wide, foot - 1)] : [])];
}

/** `▮▮▮▯▯▯▯▯▯▯  3/10` */
function slots({ running, concurrency }: WorkerItem): Span {
  const cells = Math.min(10, concurrency);
  const busy = concurrency === 0 ? 0 : Math.min(cells, Math.ceil((running / concurrency) * cells));
  return span(`${'▮'.repeat(busy)}${'▯'.repeat(cells - busy)} ${running}/${concurrency}`, running > 0 ? 'busy' : 'dim');
}

function jobsOf({ id, jobs }: WorkerItem, now: number, wide: number, high: number): readonly Line[] {
  const title = filled(
    line('   ', span(id, 'strong'), span(jobs.length === 0 ? '  idle' : `  runs ${plural(jobs.length, 'job')}`, 'dim')),
    wide,
  );
  const shown = jobs.slice(0, Math.max(0, high - 1)).map((one) => {
    const left = [span(`   ${marks.running.glyph} `, 'busy'), span(one.task), span(`  ${shortId(one.id)}`, 'dim')];
    return ends(left, [span(one.since === null ? '' : `for ${since(one.since, now)} `.replace('for now', 'just started'), 'calm')], wide);
  });
  return [title, ...shown];
}

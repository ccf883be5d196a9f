/** The views of the outbox, with the recipient, time and state of each mail, and of a single mail with headers and text. */
import { plural } from '../../format.ts';
import { wallTime } from '../../time.ts';
import type { MailDetail, MailItem, State } from '../state.ts';
import {
  blank,
  type Column,
  dayTime,
  emptyLine,
  ends,
  filled,
  folded,
  type Line,
  line,
  margin,
  rule,
  type Span,
  span,
  table,
  windowOf,
} from '../text.ts';
import { type Mark, marks } from '../theme.ts';
import { shortId } from './jobs.ts';

const mailMarks: Readonly<Record<MailItem['state'], Mark>> = {
  queued: marks.scheduled,
  sending: marks.running,
  deferred: marks.retrying,
  held: { glyph: '‖', role: 'warn' },
  sent: marks.successful,
  refused: marks.failed,
  dropped: marks.cancelled,
};

export function outbox(state: State, wide: number, high: number): readonly Line[] {
  const { mails, hasMail } = state.data;
  if (mails.length === 0) {
    return [
      blank,
      emptyLine(state, hasMail ? 'no mail yet' : "this application defines no emails; see createMail() in 'escapement/email'"),
    ];
  }
  const { from, to } = windowOf(mails.length, state.rowsDown.outbox, Math.max(1, high - 1));
  const shown = mails.slice(from, to);
  const columns: Column<MailItem>[] = [
    { title: whenTitle(state), minWidth: 10, cell: ({ at }) => span(whenText(at, state), 'dim') },
    { title: 'state', minWidth: 10, cell: ({ state: standing }) => stateSpan(standing) },
    { title: 'to', minWidth: 14, maxWidth: wide >= 120 ? 32 : 22, cut: 'middle', cell: (mail) => span(mail.to) },
    { title: 'subject', grows: true, cell: ({ subject, task }) => (subject === '' ? span(`(${task})`, 'dim') : span(subject, 'strong')) },
    { title: 'tries', align: 'right', drop: 2, cell: ({ attempts }) => span(String(attempts), attempts > 1 ? 'warn' : 'dim') },
    {
      title: '',
      grows: true,
      maxWidth: 60,
      drop: 3,
      cell: ({ note, state: standing }) => span(note, standing === 'refused' ? 'bad' : 'calm'),
    },
  ];
  const { head, rows } = table(columns, shown, wide, (_, i) => margin(i + from === state.rowsDown.outbox));
  return [head, ...rows];
}

function stateSpan(standing: MailItem['state']): Span {
  const { glyph, role } = mailMarks[standing];
  return span(`${glyph} ${standing}`, role);
}

/** In virtual time, days since its beginning: `+3d 09:00`. */
function whenText(at: number, { clock, now, zone }: State): string {
  if (!clock) return dayTime(at, now, zone);
  const dayOf = (instant: number) => Date.parse(`${wallTime(instant, zone).date}T00:00:00Z`);
  const days = Math.round((dayOf(at) - dayOf(clock.startedAt)) / 86_400_000);
  return `+${days}d ${wallTime(at, zone).time.slice(0, 5)}`;
}

/** `when, Berlin`. */
function whenTitle({ zone }: State): string {
  return `when, ${(zone.split('/').at(-1) ?? zone).replaceAll('_', ' ')}`;
}

export function mail(state: State, wide: number, high: number): readonly Line[] {
  const { mail: detail } = state.data;
  const id = state.jobId === null ? '' : shortId(state.jobId);
  if (!detail) return [blank, line(span(`   loading email ${id}`, 'dim'))];
  if (detail === 'gone') return [blank, line(span(`   email ${id} not found: dropped, pruned, or sent as another job`, 'dim'))];
  const { subject, task, attempts } = detail;
  const head = [
    ends(
      [span(' '), span(subject || `(${task})`, 'strong')],
      [stateSpan(detail.state), span(`  ${plural(attempts, 'attempt')} `, 'dim')],
      wide,
    ),
    rule(wide),
  ];
  const body = mailLines(detail, state, wide);
  const room = Math.max(1, high - head.length);
  const from = Math.min(state.rowsDown.mail, Math.max(0, body.length - room));
  return [...head, ...body.slice(from, from + room)];
}

const titleWide = 10;

function noText({ state: standing, messageId }: MailDetail): string {
  if (messageId === '' && standing === 'queued') return 'no worker has built it yet';
  return 'the text and headers of this email are not kept';
}

/** The lines below the subject. */
export function mailLines(detail: MailDetail, state: State, wide: number): Line[] {
  const { to, from, at, accepted, refused, attachments, note, messageId, task, headers, text } = detail;
  const titled = (title: string, value: string, role: Span['role'] = 'text'): Line[] =>
    value === ''
      ? []
      : folded(value, Math.max(1, wide - titleWide - 2)).map((piece, i) =>
          filled(line(span(` ${(i === 0 ? title : '').padEnd(titleWide)}`, 'dim'), span(piece, role)), wide),
        );
  const textBlock = (lines: readonly string[], role: Span['role']) =>
    lines.flatMap((one) =>
      one === '' ? [blank] : folded(one, Math.max(1, wide - 2)).map((piece) => filled(line(span(` ${piece}`, role)), wide)),
    );
  return [
    ...titled('when', whenText(at, state)),
    ...titled('from', from),
    ...titled('to', to),
    ...titled('accepted', accepted.join(', '), 'good'),
    ...refused.flatMap((one) => titled('not', one, 'bad')),
    ...titled('note', note, 'warn'),
    ...titled('attached', attachments.join(', ')),
    ...titled('task', task),
    ...titled('id', messageId, 'dim'),
    rule(wide),
    ...(headers === null ? [line(span(`   ${noText(detail)}`, 'dim'))] : textBlock(headers, 'dim')),
    ...(text === null ? [] : [blank, ...textBlock(text, 'text')]),
  ];
}

/**
 * `toHaveSentMail`: looks among the mails that the simulation's mail server has accepted; if none matches, reports the closest one and its
 * differences.
 */
import { ConfigError } from 'escapement';
import type { SentMail, Simulation } from 'escapement/testing';
import type { MatcherState } from './matching.ts';
import { checkOptions, checkTimes, count } from './matching.ts';
import { simulationOf } from './received.ts';
import type { ExpectedMail, SentMailOptions } from './register.ts';
import { momentOf, offset } from './time.ts';

const name = 'toHaveSentMail';
const fields = ['to', 'cc', 'bcc', 'from', 'subject', 'text', 'html', 'headers', 'messageId', 'task'] as const;
type Field = (typeof fields)[number];

/** One condition on a mail. */
interface Condition {
  readonly field: string;
  readonly expected: string;
  holds(mail: SentMail): boolean;
  actual(mail: SentMail): string;
}

interface Candidate {
  readonly mail: SentMail;
  readonly unmet: readonly Condition[];
}

export function toHaveSentMail(this: MatcherState, received: unknown, expected: ExpectedMail = {}, options?: SentMailOptions) {
  const sim = simulationOf(this, name, received);
  checkOptions(name, expected, fields);
  checkOptions(name, options, ['at', 'times']);
  checkTimes(name, options?.times);
  const conditions = conditionsOf(this, sim, expected, options);
  const candidates = sim.outbox.map((mail) => ({ mail, unmet: conditions.filter((condition) => !condition.holds(mail)) }));
  const found = candidates.filter(({ unmet }) => unmet.length === 0);
  const times = options?.times;
  return {
    pass: times === undefined ? found.length > 0 : found.length === times,
    message: () => {
      const hint = this.utils.matcherHint(name, 'sim', 'mail', { isNot: this.isNot });
      return `${hint}\n\n${explain(this, sim, conditions, candidates, found, times)}`;
    },
  };
}

function conditionsOf(state: MatcherState, sim: Simulation, expected: ExpectedMail, options: SentMailOptions = {}): Condition[] {
  const conditions: Condition[] = fields.flatMap((field) => {
    const wanted = expected[field];
    if (wanted === undefined) return [];
    const all = Array.isArray(wanted) ? wanted : [wanted];
    const holds = (mail: SentMail) => all.every((one) => valuesOf(mail, field).some((value) => matches(state, value, one, field)));
    return [{ field, expected: all.map((one) => printed(state, one)).join(' and '), holds, actual: (mail) => shown(state, mail, field) }];
  });
  if (options.at !== undefined) {
    const startedAt = sim.startedAt.getTime();
    const at = momentOf(options.at, () => startedAt, `${name}().at`);
    conditions.push({
      field: 'at',
      expected: offset(at, startedAt),
      holds: (mail) => mail.at.getTime() === at,
      actual: (mail) => offset(mail.at.getTime(), startedAt),
    });
  }
  return conditions;
}

/** A test that asks for recipients also means those in the envelope. */
function valuesOf(mail: SentMail, field: Field): readonly unknown[] {
  if (field === 'to') return [...new Set([...mail.to, ...mail.recipients])];
  const value = mail[field];
  return Array.isArray(value) ? value : [value];
}

/** A string must equal the whole value, ignoring case for addresses; a pattern may match anywhere in it. */
function matches(state: MatcherState, value: unknown, wanted: unknown, field: Field): boolean {
  if (wanted instanceof RegExp) return typeof value === 'string' && value.search(wanted) >= 0;
  if (typeof wanted === 'string' && typeof value === 'string') {
    const isAddress = field === 'to' || field === 'cc' || field === 'bcc' || field === 'from';
    return isAddress ? value.toLowerCase() === wanted.toLowerCase() : value === wanted;
  }
  if (typeof wanted === 'object' && wanted !== null && 'asymmetricMatch' in wanted) return state.equals(value, wanted);
  throw new ConfigError(`Invalid arguments for ${name}()`, [
    { path: field, expected: 'a string, a pattern, an asymmetric matcher, or an array of these', got: String(wanted) },
  ]);
}

function explain(
  state: MatcherState,
  sim: Simulation,
  conditions: readonly Condition[],
  candidates: readonly Candidate[],
  found: readonly Candidate[],
  times: number | undefined,
): string {
  const subject = conditions.length > 0 ? 'an email like this' : 'a mail';
  const wanted = conditions.map(({ field, expected }) => `\n  ${field}: ${state.utils.EXPECTED_COLOR(expected)}`).join('');
  const details = wanted === '' ? '' : `\n${wanted}`;
  if (state.isNot) {
    const often = times === undefined ? `not to have sent ${subject}` : `to have sent ${subject} any number of times except ${times}`;
    return `Expected the simulation ${often}.${details}\n\nIt has sent:\n\n${list(state, sim, found)}`;
  }
  const often = times === undefined ? '' : ` ${count(times, 'time')}`;
  const head = `Expected the simulation to have sent ${subject}${often}.${details}`;
  if (candidates.length === 0) return `${head}\n\nIt has sent no mail.${unsent(sim)}`;
  if (found.length > 0) return `${head}\n\nIt has ${count(found.length, 'time')}:\n\n${list(state, sim, found)}`;
  const [first] = candidates as [Candidate, ...Candidate[]];
  const best = candidates.reduce((a, b) => (b.unmet.length < a.unmet.length ? b : a), first);
  const which = candidates.length === 1 ? 'The only one differs' : `The nearest of ${candidates.length} differs`;
  const differences = best.unmet.map(
    ({ field, expected, actual }) =>
      `  ${field}: expected ${state.utils.EXPECTED_COLOR(expected)}, got ${state.utils.RECEIVED_COLOR(actual(best.mail))}`,
  );
  return `${head}\n\n${which}:\n\n${list(state, sim, [best])}\n${differences.join('\n')}`;
}

/** Mail jobs that have not sent their mail are the most likely reason. */
function unsent(sim: Simulation): string {
  const open = sim.jobs().filter(({ tags, status }) => tags.includes('mail') && status !== 'successful');
  const lines = open.slice(0, maxListed).map(({ task, status, errors }) => {
    const last = errors.at(-1);
    return `\n  ${task}: ${status}${last ? `, ${last.message.split('\n', 1)[0]}` : ''}`;
  });
  return lines.length === 0 ? '' : ` ${count(open.length, 'job')} of mail:\n${lines.join('')}`;
}

const maxListed = 10;

function list(state: MatcherState, sim: Simulation, candidates: readonly Candidate[]): string {
  if (candidates.length === 0) return '  none';
  const startedAt = sim.startedAt.getTime();
  const lines = candidates
    .slice(0, maxListed)
    .map(
      ({ mail }) =>
        `  ${offset(mail.at.getTime(), startedAt)} ${state.utils.RECEIVED_COLOR(`${mail.recipients.join(', ')}: ${mail.subject}`)}`,
    );
  if (candidates.length > maxListed) lines.push(`  and ${candidates.length - maxListed} more`);
  return lines.join('\n');
}

function printed(state: MatcherState, value: unknown): string {
  return value instanceof RegExp ? String(value) : state.utils.stringify(value, 3, { min: true });
}

function shown(state: MatcherState, mail: SentMail, field: Field): string {
  const values = valuesOf(mail, field);
  return values.map((value) => state.utils.stringify(value, 3, { min: true })).join(', ') || 'none';
}

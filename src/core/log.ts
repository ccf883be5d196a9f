/**
 * The log lines that are kept with a job: the latest, within bounds. They are bytes beside the job, one line of JSON each, under a name that no
 * blob of an application has.
 */
import type { LogLevel } from './events.ts';
import { cut } from './failure.ts';
import { encode, utf8Length } from './json.ts';

/** One line that an attempt has logged. */
export interface LogLine {
  /** Epoch milliseconds. */
  readonly at: number;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly attempt: number;
  /** Of the attempt, and how many lines it had logged before: a line that is added twice is kept once. */
  readonly claim: number;
  readonly n: number;
}

/** The name of the blob. */
export const logBlob = '~log';
/** How many lines are kept with a job, and how many bytes. */
export const mostLines = 100;
export const mostLogBytes = 16_384;
const mostMessageBytes = 2_048;
const mostFieldBytes = 2_048;

/** A line as text, within its own bounds; fields that are no plain data, or too many, are left out. */
export function lineText({ at, level, message, fields, attempt, claim, n }: LogLine): string {
  return JSON.stringify({ at, level, message: cut(message, mostMessageBytes), fields: smallFields(fields), attempt, claim, n });
}

function smallFields(fields: LogLine['fields']): LogLine['fields'] {
  if (fields === null) return null;
  try {
    const text = encode(fields, 'fields');
    return utf8Length(text) <= mostFieldBytes ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** The latest lines that fit. */
export function latestLines(lines: readonly string[]): string[] {
  const kept: string[] = [];
  let bytes = 0;
  for (let i = lines.length - 1; i >= 0 && kept.length < mostLines; i--) {
    const line = lines[i] as string;
    bytes += utf8Length(line) + 1;
    if (bytes > mostLogBytes) break;
    kept.push(line);
  }
  return kept.reverse();
}

/** The log of a job with lines added to it. Pure; every store applies it. */
export function appended(before: Uint8Array | null | undefined, added: readonly string[]): Uint8Array {
  const old = before ? linesOf(before) : [];
  const last = old.at(-1);
  const known = last === undefined ? undefined : parsed(last);
  const fresh = added.filter((text) => {
    const line = parsed(text);
    return !(known && line && line.claim === known.claim && line.n <= known.n);
  });
  return new TextEncoder().encode(latestLines([...old, ...fresh]).join('\n'));
}

/** The lines of a job's log, oldest first. Those that cannot be read are left out. */
export function readLog(bytes: Uint8Array | null | undefined): LogLine[] {
  return bytes ? linesOf(bytes).flatMap((text) => parsed(text) ?? []) : [];
}

function linesOf(bytes: Uint8Array): string[] {
  const text = new TextDecoder().decode(bytes);
  return text === '' ? [] : text.split('\n');
}

function parsed(text: string): LogLine | undefined {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return undefined;
  }
}

/**
 * The log lines stored with a job: the latest ones, within limits. They are stored as a blob, one line of JSON each, under a name that
 * blobs of an application cannot have.
 */
import type { LogLevel } from './events.ts';
import { cut } from './failure.ts';
import { encode, utf8Length } from './json.ts';

/** One line logged by an attempt. */
export interface LogLine {
  /** Epoch milliseconds. */
  readonly at: number;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly attempt: number;
  /** The attempt's claim, and the number of lines that it had logged before. A line that is added twice is kept once. */
  readonly claim: number;
  readonly n: number;
}

/** The name of the blob. */
export const logBlob = '~log';
/** The maximum number of lines and bytes kept per job. */
export const maxLines = 100;
export const maxLogBytes = 16_384;
const maxMessageBytes = 2_048;
const maxFieldBytes = 2_048;

/** A line as text, within its own size limit. Fields that are not plain data, or that are too large, are left out. */
export function lineText({ at, level, message, fields, attempt, claim, n }: LogLine): string {
  return JSON.stringify({ at, level, message: cut(message, maxMessageBytes), fields: smallFields(fields), attempt, claim, n });
}

function smallFields(fields: LogLine['fields']): LogLine['fields'] {
  if (fields === null) return null;
  try {
    const text = encode(fields, 'fields');
    return utf8Length(text) <= maxFieldBytes ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** The latest lines that fit. */
export function latestLines(lines: readonly string[]): string[] {
  const kept: string[] = [];
  let bytes = 0;
  for (let i = lines.length - 1; i >= 0 && kept.length < maxLines; i--) {
    const line = lines[i] as string;
    bytes += utf8Length(line) + 1;
    if (bytes > maxLogBytes) break;
    kept.push(line);
  }
  return kept.reverse();
}

/** A job's log with added lines. Pure; every store uses it. */
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

/** The lines of a job's log, oldest first. Unreadable lines are left out. */
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

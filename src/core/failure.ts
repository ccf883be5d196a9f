/**
 * Turns whatever a task threw into a record that can always be stored: recording an outcome must never fail, or the job would stay
 * running for ever. Every property is read under guard, texts are cleaned of NUL and lone surrogates and cut to a bounded size.
 */
import { utf8Length } from './json.ts';

const brand: unique symbol = Symbol.for('escapement.error') as never;

/** An error as it is kept on a job. */
export interface RecordedError {
  readonly name: string;
  readonly message: string;
  /** The stack as the engine gave it, with causes appended; empty when there is none. */
  readonly stack: string;
}

/** The most that an error's name, message and stack take together, in bytes of UTF-8. */
export const maxErrorBytes = 65_536;
/** The most that a text for people takes on a row: a reason, a message of progress. */
export const maxTextBytes = 4_096;
const maxNameLength = 256;
const maxMessageBytes = 16_384;

/** The record of a thrown value. Total: strings, null, cycles, throwing getters, proxies and huge stacks are all recorded. */
export function recordError(thrown: unknown): RecordedError {
  const name = cut(read(thrown, 'name') ?? nameOf(thrown), maxNameLength);
  const message = cut(read(thrown, 'message') ?? printed(thrown), maxMessageBytes);
  const stack = cut(stackOf(thrown), maxErrorBytes - utf8Length(name) - utf8Length(message));
  return Object.freeze({ name, message, stack });
}

/** True for a PermanentError and what derives from it, also of another copy of this package, and for what has its code. */
export function isPermanentError(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return (value as { [brand]?: unknown })[brand] === 'permanent' || (value as { code?: unknown }).code === 'ESCAPEMENT_PERMANENT';
}

function stackOf(thrown: unknown): string {
  let text = read(thrown, 'stack') ?? '';
  let cause = guarded(() => (thrown as { cause?: unknown }).cause);
  // Five causes are as many as anyone reads; the bound also ends cycles.
  for (let depth = 0; depth < 5 && cause !== undefined && cause !== null; depth++) {
    text += `\ncaused by: ${read(cause, 'stack') ?? read(cause, 'message') ?? printed(cause)}`;
    const inner: unknown = cause;
    cause = guarded(() => (inner as { cause?: unknown }).cause);
    if (text.length > maxErrorBytes) break;
  }
  return text;
}

function read(value: unknown, key: 'name' | 'message' | 'stack'): string | undefined {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return undefined;
  const found = guarded(() => (value as Record<string, unknown>)[key]);
  return typeof found === 'string' && (found !== '' || key !== 'name') ? found : undefined;
}

function nameOf(thrown: unknown): string {
  if (thrown === null) return 'null';
  return guarded(() => (typeof thrown === 'object' ? String(thrown?.constructor?.name || 'Object') : typeof thrown)) ?? 'unknown';
}

function printed(value: unknown): string {
  if (typeof value === 'string') return value;
  return (
    guarded(() => (typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value))) ?? 'a value that cannot be printed'
  );
}

function guarded<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch {
    return undefined;
  }
}

/** A text without NUL and lone surrogates (databases refuse them), of at most `bytes` bytes of UTF-8. */
export function cut(text: string, bytes: number): string {
  // Cut before cleaning: a text of megabytes need not be cleaned whole. A unit is at least one byte.
  const head = text.length > bytes ? text.slice(0, bytes) : text;
  const clean = head.replaceAll('\0', '\u2400').toWellFormed();
  if (clean.length === text.length && utf8Length(clean) <= bytes) return clean;
  const mark = '… (cut)';
  const room = Math.max(0, bytes - utf8Length(mark));
  let end = clean.length;
  while (end > 0 && utf8Length(clean.slice(0, end)) > room) end = Math.floor(end * 0.75);
  return (clean.slice(0, end) + mark).toWellFormed();
}

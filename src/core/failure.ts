/**
 * Turns whatever a task threw into a record that can always be stored: recording an outcome must never fail, or the job would stay
 * running for ever. Every property is read under guard, texts are cleaned of NUL and lone surrogates and cut to a bounded size.
 * What an error says beside its message is kept with it: its code, its own properties, its causes and its members.
 */
import { encode, frozen, utf8Length } from './json.ts';

const brand: unique symbol = Symbol.for('escapement.error') as never;

/** What an error says, without its stack. */
export interface ErrorDetails {
  readonly name: string;
  /** Never empty: an error without a message is told by its members, its cause or its code. */
  readonly message: string;
  /** Its `code`, such as `'ECONNREFUSED'`. */
  readonly code?: string | number;
  /** Its `status`, such as 402. */
  readonly status?: string | number;
  /** Its other own properties, as far as they are plain data, small, and not secrets by their names. */
  readonly properties?: Readonly<Record<string, unknown>>;
  /** What caused it, at most five deep. */
  readonly cause?: ErrorDetails;
  /** The members of an AggregateError, the first ten; of a SuppressedError its `error` and its `suppressed`. */
  readonly errors?: readonly ErrorDetails[];
}

/** An error as it is kept on a job. */
export interface RecordedError extends ErrorDetails {
  /** The stack as the engine gave it, with those of causes and members appended; empty when there is none. */
  readonly stack: string;
}

/** The most that an error's name, message and stack take together, in bytes of UTF-8. */
export const maxErrorBytes = 65_536;
/** The most that its code, status and properties, its causes and its members take beside that. */
export const maxDetailBytes = 16_384;
/** The most that a text for people takes on a row: a reason, a message of progress. */
export const maxTextBytes = 4_096;
const maxNameLength = 256;
const maxMessageBytes = 16_384;
/** Of a member or a cause; of a property. */
const maxPartBytes = 1_024;
const maxMembers = 10;
/** So many errors are told of in one text, with their causes and members. */
const maxErrors = 3 * maxMembers;
const maxProperties = 30;
/** As many causes as anyone reads. */
const deepest = 5;
const noMessage = '(no message)';
/** Names of what must not be copied into a store. */
const secret = /pass(?:word|wd|phrase)|^pwd$|^auth$|bearer|secret|token|(?:api|access|private)[-_]?key|authori[sz]ation|cookie|credential/i;

/** The record of a thrown value. Total: strings, null, cycles, throwing getters, proxies and huge stacks are all recorded. */
export function recordError(thrown: unknown): RecordedError {
  const { name, message, ...details } = detailsOf(thrown, maxMessageBytes, [], { bytes: maxDetailBytes });
  const stack = cut(stackOf(thrown, [], { errors: 0 }), maxErrorBytes - utf8Length(name) - utf8Length(message));
  return frozen({ name, message, stack, ...details });
}

/** @param within the errors that led to this one: a cycle ends where it closes */
function detailsOf(thrown: unknown, messageBytes: number, within: readonly unknown[], left: { bytes: number }): ErrorDetails {
  const name = cut(read(thrown, 'name') ?? nameOf(thrown), maxNameLength);
  const message = cut(messageOf(thrown, within, { errors: 0 }), messageBytes);
  const own: { -readonly [Key in keyof ErrorDetails]: ErrorDetails[Key] } = { name, message };
  if (within.length > 0) left.bytes -= utf8Length(name) + utf8Length(message);
  const code = word(thrown, 'code', left);
  const status = word(thrown, 'status', left);
  if (code !== undefined) own.code = code;
  if (status !== undefined) own.status = status;
  const members = membersOf(thrown);
  const told = new Set(['name', 'message', 'stack', 'cause', ...Object.keys(own), ...(members.length > 0 ? ['errors'] : [])]);
  const properties = propertiesOf(thrown, told, left);
  if (properties) own.properties = properties;
  const path = [...within, thrown];
  const cause = get(thrown, 'cause');
  if (follows(cause, path, left)) own.cause = detailsOf(cause, maxPartBytes, path, left);
  const errors: ErrorDetails[] = [];
  for (const { error } of members) if (follows(error, path, left)) errors.push(detailsOf(error, maxPartBytes, path, left));
  if (errors.length > 0) own.errors = errors;
  return own;
}

function follows(error: unknown, path: readonly unknown[], left: { readonly bytes: number }): boolean {
  return error !== undefined && error !== null && left.bytes > 0 && path.length <= deepest && !path.includes(error);
}

/** @param told counts the errors that had to be told by others; empty where they are too many */
function messageOf(thrown: unknown, within: readonly unknown[], told: { errors: number }): string {
  const text = read(thrown, 'message') ?? printed(thrown);
  if (text.trim() !== '') return text;
  told.errors += 1;
  if (told.errors > maxErrors) return '';
  if (within.length >= deepest || within.includes(thrown)) return noMessage;
  const path = [...within, thrown];
  const members = membersOf(thrown).map(({ error }) => cut(messageOf(error, path, told), maxPartBytes));
  const texts = new Set(members.filter((text) => text !== ''));
  if (members.length > 0) return [...texts].join('; ') || noMessage;
  const cause = get(thrown, 'cause');
  const code = get(thrown, 'code');
  if (cause !== undefined && cause !== null) return messageOf(cause, path, told) || noMessage;
  return typeof code === 'string' && code !== '' ? code : noMessage;
}

/** The errors that an error is made of, each with its label in the stack. */
function membersOf(thrown: unknown): { readonly label: string; readonly error: unknown }[] {
  if (isSuppressed(thrown)) return ['error', 'suppressed'].map((label) => ({ label, error: get(thrown, label) }));
  const errors = get(thrown, 'errors');
  const members = guarded(() => (Array.isArray(errors) ? Array.from(errors.slice(0, maxMembers)) : [])) ?? [];
  const count = guarded(() => (errors as unknown[]).length);
  return members.map((error, i) => ({ label: `error ${i + 1} of ${count}`, error }));
}

function isSuppressed(thrown: unknown): boolean {
  return read(thrown, 'name') === 'SuppressedError';
}

/** A property that is a text or a number. */
function word(thrown: unknown, key: string, left: { bytes: number }): string | number | undefined {
  const value = get(thrown, key);
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value !== 'string' || value === '' || left.bytes <= 0) return undefined;
  const text = cut(value, maxNameLength);
  left.bytes -= utf8Length(text);
  return text;
}

/** @param told the properties that have been told of */
function propertiesOf(thrown: unknown, told: ReadonlySet<string>, left: { bytes: number }): Record<string, unknown> | undefined {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const found: [string, unknown][] = [];
  for (const key of guarded(() => Object.keys(thrown)) ?? []) {
    if (found.length === maxProperties) break;
    if (told.has(key) || secret.test(key) || key.length > maxNameLength) continue;
    if (isSuppressed(thrown) && (key === 'error' || key === 'suppressed')) continue;
    const value = get(thrown, key);
    // What cannot be stored as it is, connections and responses for one, is nothing that an error says.
    const text = isSmall(value) ? guarded(() => encode(typeof value === 'string' ? cut(value, maxPartBytes) : value, key)) : undefined;
    if (text === undefined || namesSecret(text)) continue;
    const bytes = utf8Length(key) + utf8Length(text);
    if (bytes > 2 * maxPartBytes || bytes > left.bytes) continue;
    left.bytes -= bytes;
    found.push([cut(key, maxNameLength), JSON.parse(text)]);
  }
  return found.length > 0 ? Object.fromEntries(found) : undefined;
}

/** False for what is so large that it need not be written to know that it takes more than a property may. A text is cut. */
function isSmall(value: unknown): boolean {
  let left = 8 * maxPartBytes;
  const count = (part: unknown): boolean => {
    left -= 1;
    if (typeof part === 'string') left -= part.length;
    else if (typeof part === 'object' && part !== null) {
      if (Array.isArray(part)) left -= part.length;
      if (left < 0) return false;
      for (const key in part) {
        left -= key.length;
        if (left < 0 || !count((part as Record<string, unknown>)[key])) return false;
      }
    }
    return left >= 0;
  };
  return typeof value === 'string' || (guarded(() => count(value)) ?? false);
}

function namesSecret(json: string): boolean {
  return (json.match(/"(?:[^"\\]|\\.)*":/g) ?? []).some((key) => secret.test(key));
}

/** @param told counts the errors whose stacks are in the text: it is for people, and cut */
function stackOf(thrown: unknown, within: readonly unknown[], told: { errors: number }): string {
  told.errors += 1;
  let text = read(thrown, 'stack') ?? (within.length === 0 ? '' : (read(thrown, 'message') ?? printed(thrown)));
  const path = [...within, thrown];
  const parts = [{ label: 'caused by', error: get(thrown, 'cause') }, ...membersOf(thrown)];
  for (const { label, error } of parts) {
    if (!follows(error, path, { bytes: maxErrorBytes - text.length }) || told.errors > maxErrors) continue;
    text += `\n${label}: ${stackOf(error, path, told)}`;
  }
  return text;
}

function get(value: unknown, key: string): unknown {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return undefined;
  return guarded(() => (value as Record<string, unknown>)[key]);
}

function read(value: unknown, key: 'name' | 'message' | 'stack'): string | undefined {
  const found = get(value, key);
  return typeof found === 'string' && (found !== '' || key !== 'name') ? found : undefined;
}

/** True for a PermanentError and what derives from it, also of another copy of this package, and for what has its code. */
export function isPermanentError(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return (value as { [brand]?: unknown })[brand] === 'permanent' || (value as { code?: unknown }).code === 'ESCAPEMENT_PERMANENT';
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

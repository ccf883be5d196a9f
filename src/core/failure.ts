/**
 * Converts any thrown value into a record that can always be stored. Recording an outcome must never fail, or the job would stay `running`.
 * Every property read is guarded. Texts are stripped of NUL and lone surrogates and limited in size. Besides the message, the record keeps
 * the error's code, own properties, causes and members.
 */
import { encode, frozen, utf8Length } from './json.ts';

const brand: unique symbol = Symbol.for('escapement.error') as never;

/** An error's fields, without its stack. */
export interface ErrorDetails {
  readonly name: string;
  /** Never empty: an error without a message is described by its members, its cause or its code. */
  readonly message: string;
  /** Its `code`, such as `'ECONNREFUSED'`. */
  readonly code?: string | number;
  /** Its `status`, such as 402. */
  readonly status?: string | number;
  /** Its other own properties, if they are small plain data and their names do not suggest secrets. */
  readonly properties?: Readonly<Record<string, unknown>>;
  /** Its cause, at most five levels deep. */
  readonly cause?: ErrorDetails;
  /** The first ten members of an AggregateError; `error` and `suppressed` of a SuppressedError. */
  readonly errors?: readonly ErrorDetails[];
}

/** An error as stored with a job. */
export interface RecordedError extends ErrorDetails {
  /** The stack as the JavaScript engine provides it, followed by those of causes and members; empty if there is none. */
  readonly stack: string;
}

/** Maximum size of an error's name, message and stack together, in bytes of UTF-8. */
export const maxErrorBytes = 65_536;
/** Maximum size of its code, status, properties, causes and members, in addition to that. */
export const maxDetailBytes = 16_384;
/** Maximum size of a text on a row, such as a reason or a progress message. */
export const maxTextBytes = 4_096;
const maxNameLength = 256;
const maxMessageBytes = 16_384;
/** Limit for a member or a cause, and for a property. */
const maxPartBytes = 1_024;
const maxMembers = 10;
/** Maximum number of errors described in one text, including causes and members. */
const maxErrors = 3 * maxMembers;
const maxProperties = 30;
/** Deeper causes are dropped. */
const maxDepth = 5;
const noMessage = '(no message)';
/** Names of properties that must not be copied into a store. */
const secret = /pass(?:word|wd|phrase)|^pwd$|^auth$|bearer|secret|token|(?:api|access|private)[-_]?key|authori[sz]ation|cookie|credential/i;

/** Records a thrown value. Never throws: strings, null, cycles, throwing getters, proxies and huge stacks are all recorded. */
export function recordError(thrown: unknown): RecordedError {
  const { name, message, ...details } = detailsOf(thrown, maxMessageBytes, [], { bytes: maxDetailBytes });
  const stack = cut(stackOf(thrown, [], { errors: 0 }), maxErrorBytes - utf8Length(name) - utf8Length(message));
  return frozen({ name, message, stack, ...details });
}

/** @param within the errors that led to this one; detects cycles */
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
  const recorded = new Set(['name', 'message', 'stack', 'cause', ...Object.keys(own), ...(members.length > 0 ? ['errors'] : [])]);
  const properties = propertiesOf(thrown, recorded, left);
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
  return error !== undefined && error !== null && left.bytes > 0 && path.length <= maxDepth && !path.includes(error);
}

/** @param described counts the errors that are described by other errors; the result is empty if there are too many */
function messageOf(thrown: unknown, within: readonly unknown[], described: { errors: number }): string {
  const text = read(thrown, 'message') ?? printed(thrown);
  if (text.trim() !== '') return text;
  described.errors += 1;
  if (described.errors > maxErrors) return '';
  if (within.length >= maxDepth || within.includes(thrown)) return noMessage;
  const path = [...within, thrown];
  const members = membersOf(thrown).map(({ error }) => cut(messageOf(error, path, described), maxPartBytes));
  const texts = new Set(members.filter((text) => text !== ''));
  if (members.length > 0) return [...texts].join('; ') || noMessage;
  const cause = get(thrown, 'cause');
  const code = get(thrown, 'code');
  if (cause !== undefined && cause !== null) return messageOf(cause, path, described) || noMessage;
  return typeof code === 'string' && code !== '' ? code : noMessage;
}

/** The members of an error, each with its label in the stack. */
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

/** A property that is a string or a number. */
function word(thrown: unknown, key: string, left: { bytes: number }): string | number | undefined {
  const value = get(thrown, key);
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value !== 'string' || value === '' || left.bytes <= 0) return undefined;
  const text = cut(value, maxNameLength);
  left.bytes -= utf8Length(text);
  return text;
}

/** @param recorded the properties that are recorded already */
function propertiesOf(thrown: unknown, recorded: ReadonlySet<string>, left: { bytes: number }): Record<string, unknown> | undefined {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const found: [string, unknown][] = [];
  for (const key of guarded(() => Object.keys(thrown)) ?? []) {
    if (found.length === maxProperties) break;
    if (recorded.has(key) || secret.test(key) || key.length > maxNameLength) continue;
    if (isSuppressed(thrown) && (key === 'error' || key === 'suppressed')) continue;
    const value = get(thrown, key);
    // Values that cannot be stored, such as connections and responses, are not part of an error's description.
    const text = isSmall(value) ? guarded(() => encode(typeof value === 'string' ? cut(value, maxPartBytes) : value, key)) : undefined;
    if (text === undefined || namesSecret(text)) continue;
    const bytes = utf8Length(key) + utf8Length(text);
    if (bytes > 2 * maxPartBytes || bytes > left.bytes) continue;
    left.bytes -= bytes;
    found.push([cut(key, maxNameLength), JSON.parse(text)]);
  }
  return found.length > 0 ? Object.fromEntries(found) : undefined;
}

/** False for values so large that they exceed the limit for a property without being encoded. Strings are cut instead. */
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

/** @param described counts the errors whose stacks are in the text, which is for humans and may be cut */
function stackOf(thrown: unknown, within: readonly unknown[], described: { errors: number }): string {
  described.errors += 1;
  let text = read(thrown, 'stack') ?? (within.length === 0 ? '' : (read(thrown, 'message') ?? printed(thrown)));
  const path = [...within, thrown];
  const parts = [{ label: 'caused by', error: get(thrown, 'cause') }, ...membersOf(thrown)];
  for (const { label, error } of parts) {
    if (!follows(error, path, { bytes: maxErrorBytes - text.length }) || described.errors > maxErrors) continue;
    text += `\n${label}: ${stackOf(error, path, described)}`;
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

/** True for a PermanentError, its subclasses, those of another copy of this package, and any error with its code. */
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

/** Removes NUL and lone surrogates, which databases refuse, and limits the text to `bytes` bytes of UTF-8. */
export function cut(text: string, bytes: number): string {
  // Cut before cleaning, so that a text of megabytes is not cleaned in full. A unit is at least one byte.
  const head = text.length > bytes ? text.slice(0, bytes) : text;
  const clean = head.replaceAll('\0', '\u2400').toWellFormed();
  if (clean.length === text.length && utf8Length(clean) <= bytes) return clean;
  const mark = '… (cut)';
  const room = Math.max(0, bytes - utf8Length(mark));
  let end = clean.length;
  while (end > 0 && utf8Length(clean.slice(0, end)) > room) end = Math.floor(end * 0.75);
  return (clean.slice(0, end) + mark).toWellFormed();
}

/**
 * The boundary between values and stored text: strict JSON. A value that `JSON.stringify` would change or drop is refused, and the error
 * names its path, so a stored value decodes to an equal one. One pass both checks and writes, so the value cannot change in between. This
 * is the only place that encodes; another codec (encryption, another format) would replace it.
 */
import { show } from './duration.ts';
import { InputError } from './errors.ts';
import { isSnooze, steering } from './outcomes.ts';

/** The largest encoded input or return value, in bytes of UTF-8. */
export const maxEncodedBytes = 1_048_576;
/** Maximum nesting depth. Deeper data overflows the stack of other JSON parsers. */
export const maxDepth = 200;

/** Appears in compiler errors in place of a value that cannot be stored as JSON. `Why` says what it is and what to pass instead. */
export interface CannotBeStored<Why extends string> {
  readonly [unstorable]: Why;
}
declare const unstorable: unique symbol;

/**
 * `T` with each part that JSON would change or drop replaced by `CannotBeStored`. Types of plain data are unchanged. Values whose type does
 * not tell (`unknown`, instances of classes without methods) are checked by {@link encode}. Symbol keys mark branded types.
 */
export type Stored<T> = unknown extends T
  ? T
  : T extends string | number | boolean | null | undefined | void
    ? T
    : T extends bigint
      ? CannotBeStored<'a BigInt; use a string, or a number if it fits'>
      : T extends symbol
        ? CannotBeStored<'a symbol; use a string'>
        : T extends ((...args: never) => unknown) | (abstract new (...args: never) => unknown)
          ? CannotBeStored<'a function or method; use plain data without it'>
          : T extends Date
            ? CannotBeStored<'a Date; use date.toISOString() or date.getTime()'>
            : T extends ReadonlyMap<unknown, unknown>
              ? CannotBeStored<'a Map; use Object.fromEntries(map) or [...map]'>
              : T extends ReadonlySet<unknown>
                ? CannotBeStored<'a Set; use [...set]'>
                : T extends ArrayBufferLike | ArrayBufferView
                  ? CannotBeStored<'bytes; use a string, such as base64, or keep them elsewhere and pass a reference'>
                  : T extends { toJSON: (...args: never) => unknown }
                    ? CannotBeStored<'an object with toJSON(); use plain data'>
                    : T extends readonly unknown[]
                      ? StoredArray<T>
                      : { [Key in keyof T]: Key extends symbol ? T[Key] : Stored<T[Key]> };

/** An index signature, unlike a mapped array, is only resolved when it is compared, so recursive types terminate. */
type StoredArray<T extends readonly unknown[]> = number extends T['length']
  ? { readonly [index: number]: Stored<T[number]> }
  : { [Key in keyof T]: Stored<T[Key]> };

/**
 * `unknown`, which every type is assignable to, if `Data` can be stored; otherwise `Otherwise`, which shows in a compiler error what cannot
 * be. Types that are not known yet (`T` in a generic function) are not checked: the constraint of the index is `'storable'` then, because
 * `any` adds nothing to it.
 */
export type IfStorable<Data, Otherwise> = ({ storable: unknown } & { [other: string]: Otherwise })[Verdict<Data>];
// biome-ignore lint/suspicious/noExplicitAny: of two branches, a type that is not known yet is held to the one that is not any
type Verdict<Data> = [Data] extends [Stored<Data>] ? 'storable' : any;

/** `T`, but not an inference site. `NoInfer` would keep conditional types from distributing over a union. */
export type Settled<T> = [T][T extends unknown ? 0 : never];

/**
 * Encodes a value as JSON text.
 * @param value a plain JSON value; object properties that are `undefined` are omitted, as in `JSON.stringify`
 * @param what names the value in errors, for example `input of mail.welcome`
 * @throws InputError with `path` for anything that JSON would change, drop or fail on, and for texts over 1 MiB
 */
export function encode(value: unknown, what: string): string {
  const text = write(value, '', [], what);
  // A UTF-16 unit takes at most three bytes in UTF-8, so most texts need no count.
  if (text.length * 3 > maxEncodedBytes) {
    const bytes = utf8Length(text);
    if (bytes > maxEncodedBytes) {
      throw new InputError(
        `${what} is ${bytes} bytes as JSON; at most ${maxEncodedBytes} (1 MiB) can be stored. Keep the data elsewhere and pass a reference to it.`,
        { path: '' },
      );
    }
  }
  return text;
}

/** Decodes a text made by {@link encode}. */
export function decode(text: string): unknown {
  return JSON.parse(text);
}

/**
 * Deep-freezes plain data and returns it. Applications read the engine's own rows, which other readers share, so a write must throw instead
 * of spreading. Data that is already frozen is assumed to be frozen throughout.
 */
export function frozen<T>(data: T): T {
  if (typeof data !== 'object' || data === null || Object.isFrozen(data)) return data;
  for (const key in data) frozen(data[key]);
  return Object.freeze(data);
}

function write(value: unknown, path: string, ancestors: object[], what: string): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'number':
      if (!Number.isFinite(value)) throw refused(what, path, show(value), 'JSON turns it into null; use null or a string');
      if (Object.is(value, -0)) throw refused(what, path, '-0', 'JSON turns it into 0; use 0');
      return String(value);
    case 'object':
      return value === null ? 'null' : writeObject(value, path, ancestors, what);
    case 'undefined':
      throw refused(what, path, 'undefined', 'JSON has no undefined; use null, or omit the property');
    case 'bigint':
      throw refused(what, path, `the BigInt ${show(value)}`, 'use a string, or a number if it fits');
    default:
      throw refused(what, path, show(value), 'only plain data can be stored');
  }
}

function writeObject(value: object, path: string, ancestors: object[], what: string): string {
  if (ancestors.includes(value))
    throw refused(what, path, 'a cycle: the value contains itself', 'use plain data without circular references');
  if (ancestors.length >= maxDepth) throw refused(what, path, `data nested deeper than ${maxDepth} levels`, 'flatten it');
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
    const hint = value instanceof Date ? 'use toISOString() or getTime()' : 'its toJSON() would store a different value; use plain data';
    throw refused(what, path, show(value), hint);
  }
  ancestors.push(value);
  const text = Array.isArray(value) ? writeArray(value, path, ancestors, what) : writePlain(value, path, ancestors, what);
  ancestors.pop();
  return text;
}

function writeArray(value: readonly unknown[], path: string, ancestors: object[], what: string): string {
  let text = '[';
  for (let i = 0; i < value.length; i++) {
    if (!(i in value)) throw refused(what, `${path}[${i}]`, 'a hole in an array', 'JSON turns it into null; fill it');
    if (i > 0) text += ',';
    text += write(value[i], `${path}[${i}]`, ancestors, what);
  }
  if (Object.keys(value).length !== value.length)
    throw refused(what, path, 'an array with named properties', 'JSON drops them; use an object');
  return `${text}]`;
}

function writePlain(value: object, path: string, ancestors: object[], what: string): string {
  const prototype = Object.getPrototypeOf(value);
  // Objects of another realm (vm contexts, some test runners) have another Object.prototype, whose own prototype is null.
  if (prototype !== null && prototype !== Object.prototype && Object.getPrototypeOf(prototype) !== null) {
    throw refused(what, path, show(value), 'JSON keeps only its own enumerable properties; use a plain object');
  }
  let text = '{';
  for (const key of Object.keys(value)) {
    const property = (value as Record<string, unknown>)[key];
    if (property === undefined) continue;
    if (text.length > 1) text += ',';
    text += `${JSON.stringify(key)}:${write(property, join(path, key), ancestors, what)}`;
  }
  const steers = steering(value);
  if (steers) {
    const call = isSnooze(steers) ? 'snooze()' : 'cancel()';
    throw refused(what, path, `what ${call} returns`, `return it from the task directly: return ${call.replace(')', '…)')}`);
  }
  if (Object.getOwnPropertySymbols(value).length > 0)
    throw refused(what, path, 'an object with symbol keys', 'JSON drops them; use strings');
  return `${text}}`;
}

function join(path: string, key: string): string {
  if (!/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key)) return `${path}[${JSON.stringify(key)}]`;
  return path === '' ? key : `${path}.${key}`;
}

function refused(what: string, path: string, got: string, hint: string): InputError {
  const where = path === '' ? what : `${what}: ${path}`;
  return new InputError(`${where} is ${got}, which cannot be stored as JSON; ${hint}.`, { path });
}

/** The length of a text in bytes of UTF-8. A lone surrogate counts as three bytes, like the replacement character. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) bytes += 1;
    else {
      bytes += 2;
      // The two units of a pair make four bytes: the first counts three, the second one.
      if (unit >= 0xd800 && unit < 0xdc00) {
        const next = text.charCodeAt(i + 1);
        if (next >= 0xdc00 && next < 0xe000) i++;
      }
    }
  }
  return bytes;
}

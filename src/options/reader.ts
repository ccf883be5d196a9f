/**
 * Reads options. All faults of a call are collected and thrown as one ConfigError. An unknown option is a fault too, with a suggestion if a similar
 * name exists.
 */
import {
  answersAtOnce,
  durationExpected,
  instantExpected,
  isClass,
  isGenerator,
  parseDuration,
  parseInstant,
  parseWhen,
  show,
} from '../core/duration.ts';
import { ConfigError, type ConfigFault } from '../core/errors.ts';
import { knownQueues, meant, nameExpected, namePattern, nearest } from './names.ts';

export const whenExpected = "a duration from now such as '2h', or an instant with offset";

/** Stands for a required value that is not given. */
export const missing = Symbol('missing');

/** Reads options, collects faults, and throws them together. */
export class OptionReader {
  readonly faults: ConfigFault[] = [];
  readonly #subject: string;

  constructor(what: string) {
    this.#subject = what;
  }

  fault(path: string, expected: string, got: unknown, didYouMean?: string): undefined {
    this.faults.push({ path, expected, got: got === missing ? 'nothing' : show(got), ...(didYouMean === undefined ? {} : { didYouMean }) });
    return undefined;
  }

  done(): void {
    if (this.faults.length > 0) throw new ConfigError(this.#subject, this.faults);
  }

  /** Reads the value as an object with known keys only. */
  object(value: unknown, path: string, keys: readonly string[], expected = 'an object'): Record<string, unknown> {
    if (value === undefined) return {};
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.fault(path === '' ? 'options' : path, expected, value);
      return {};
    }
    for (const key of Object.keys(value)) {
      if (keys.includes(key)) continue;
      this.fault(path === '' ? key : `${path}.${key}`, `one of ${keys.join(', ')}`, key, meant(key, keys));
    }
    return value as Record<string, unknown>;
  }

  /** The options of a call, apart from its main arguments; none if undefined. */
  static given(value: unknown, call: string, keys: readonly string[]): Record<string, unknown> {
    if (value === undefined) return {};
    const read = new OptionReader(`Invalid options for ${call}`);
    const given = read.object(value, '', keys);
    read.done();
    return given;
  }

  name(value: unknown, path: string): string {
    if (typeof value === 'string' && namePattern.test(value)) return value;
    this.fault(path, nameExpected, value);
    return '';
  }

  integer(value: unknown, path: string, min: number, max: number): number | undefined {
    if (value === undefined) return undefined;
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
    return this.fault(path, `a whole number from ${min} to ${max}`, value);
  }

  /** A required priority. */
  priority(value: unknown, path: string): number {
    return this.integer(value ?? missing, path, -100, 100) ?? 0;
  }

  duration(value: unknown, path: string): number | undefined {
    if (value === undefined) return undefined;
    return parseDuration(value) ?? this.fault(path, durationExpected(value), value);
  }

  instant(value: unknown, path: string): number | undefined {
    if (value === undefined) return undefined;
    return parseInstant(value) ?? this.fault(path, instantExpected, value);
  }

  when(value: unknown, path: string, now: number): number | undefined {
    if (value === undefined) return undefined;
    return parseWhen(value, now) ?? this.fault(path, durationExpected(value, whenExpected), value);
  }

  tags(value: unknown, path: string): readonly string[] | undefined {
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((tag) => typeof tag === 'string' && tag !== '' && tag.length <= 128))
      return Object.freeze([...value]);
    return this.fault(path, 'an array of strings of 1 to 128 characters', value);
  }

  /** A function that must return its answer synchronously. */
  predicate(value: unknown, path: string): ((error: unknown) => unknown) | undefined {
    if (isError(value)) return this.fault(path, `a function: (error) => error instanceof ${value.name || 'it'}`, value);
    if (value === undefined || answersAtOnce(value)) return value as ((error: unknown) => unknown) | undefined;
    return this.fault(path, 'a synchronous function that returns true or false', value);
  }

  listener<Listener>(value: unknown, path: string): Listener | undefined {
    if (value === undefined || (typeof value === 'function' && !isGenerator(value) && !isClass(value)))
      return value as Listener | undefined;
    return this.fault(path, 'a function of the event', value);
  }

  queue(value: unknown, path: string, known: readonly string[] | undefined): string | undefined {
    if (value === undefined) return undefined;
    const name = this.name(value, path);
    if (name !== '' && known && !known.includes(name)) return this.fault(path, knownQueues(known), name, nearest(name, known));
    return name;
  }

  backend(value: unknown, path: string, known: readonly string[]): string | undefined {
    if (value === undefined) return undefined;
    if (typeof value === 'string' && known.includes(value)) return value;
    return this.fault(
      path,
      `one of the backends ${known.join(', ')}`,
      value,
      typeof value === 'string' ? nearest(value, known) : undefined,
    );
  }
}

/** True for Error and its subclasses: called as a predicate, they would return an error, which counts as true. */
function isError(value: unknown): value is ErrorConstructor {
  return typeof value === 'function' && (value === Error || value.prototype instanceof Error);
}

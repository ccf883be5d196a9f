/** Parses and checks option values. Each parser throws the sentence that commander prints after the option's name. */
import { InvalidArgumentError } from 'commander';
import { parseDuration, parseInstant } from '../src/core/duration.ts';

export const durationExpected = "a duration such as '90m', '12h' or '7d'";
export const instantExpected = "an instant with its offset, such as '2026-03-28T00:00:00Z'";

export function duration(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) throw new InvalidArgumentError(`Give ${durationExpected}.`);
  return ms;
}

export function instant(text: string): number {
  const at = parseInstant(text);
  if (at === undefined) throw new InvalidArgumentError(`Give ${instantExpected}.`);
  return at;
}

/** A duration from now, or an instant. */
export function when(text: string): string | Date {
  if (parseDuration(text) !== undefined) return text;
  const at = parseInstant(text);
  if (at === undefined) throw new InvalidArgumentError(`Give ${durationExpected}, or ${instantExpected}.`);
  return new Date(at);
}

export function whole(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^-?\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Give a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? '' : ` to ${max}`}.`);
  };
}

/** @throws InvalidArgumentError without the URL, which may contain a password */
export function postgresUrl(text: string): string {
  if (/^postgres(ql)?:\/\/./.test(text)) return text;
  const scheme = /^(\w+):\/\//.exec(text)?.[1];
  throw new InvalidArgumentError(
    `Give a URL such as postgres://user@host/database.${scheme === undefined ? '' : ` Escapement keeps jobs in PostgreSQL or SQLite; ${scheme} is not supported.`}`,
  );
}

/** One of several words. */
export function oneOf<Word extends string>(words: readonly Word[]): (text: string) => Word {
  return (text) => {
    if ((words as readonly string[]).includes(text)) return text as Word;
    throw new InvalidArgumentError(`Give ${listed(words)}.`);
  };
}

/** A list of words, separated by commas or given by repeating the option: `--queues mail,default`. */
export function words(text: string, before: readonly string[] = []): readonly string[] {
  const more = text.split(',').map((word) => word.trim());
  if (more.includes('')) throw new InvalidArgumentError("Give names separated by commas, such as 'mail,default'.");
  return [...before, ...more];
}

export function someOf<Word extends string>(allowed: readonly Word[]): (text: string, before?: readonly Word[]) => readonly Word[] {
  return (text, before = []) => [...before, ...words(text).map(oneOf(allowed))];
}

/** A repeatable option whose values may contain commas. */
export function repeated(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

const unitBytes: Record<string, number> = { b: 1, kb: 2 ** 10, mb: 2 ** 20, gb: 2 ** 30 };

/** Parses `512mb`, `1.5gb` or a number of bytes; units are multiples of 1,024. */
export function bytes(text: string): number {
  const [, count, unit = 'b'] = /^(\d+(?:\.\d+)?)(b|kb|mb|gb)?$/i.exec(text) ?? [];
  const value = Number(count) * (unitBytes[unit.toLowerCase()] ?? Number.NaN);
  if (Number.isFinite(value) && value > 0) return Math.round(value);
  throw new InvalidArgumentError("Give a size such as '512mb' or '2gb'.");
}

/** `a, b or c` */
export function listed(names: readonly string[], last = 'or'): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} ${last} ${names.at(-1)}`;
}

/** Removes undefined properties, for functions that distinguish undefined from missing ones. */
export function given<T extends object>(options: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>;
  };
}

/** Reads fixtures/scenarios/*.txt: aligned, readable lines; `#` begins a comment, and the first comment is the scenario's name. */
import { readdirSync, readFileSync } from 'node:fs';
import { parseDuration } from '../../src/core/duration.ts';

const folder = new URL('../../fixtures/scenarios/', import.meta.url);

export interface Line {
  readonly file: string;
  readonly number: number;
  /** Milliseconds from the start; null for setup lines. */
  readonly at: number | null;
  readonly verb: string;
  readonly words: readonly string[];
  readonly options: Readonly<Record<string, string>>;
}

export interface Scenario {
  readonly file: string;
  readonly name: string;
  /** Store calls by hand, or the engine's workers. */
  readonly level: 'store' | 'engine';
  readonly lines: readonly Line[];
}

export function readScenarios(): Scenario[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.txt'))
    .sort()
    .map((file) => parse(file, readFileSync(new URL(file, folder), 'utf8')));
}

function parse(file: string, text: string): Scenario {
  const all = text.split('\n');
  const name = /^#\s*(.+)$/.exec(all[0] ?? '')?.[1];
  if (!name) throw new Error(`${file}: the first line is to be a comment that names the scenario`);
  const lines = all.flatMap((line, i) => parseLine(file, i + 1, line.replace(/(^|\s)#.*$/, '').trim()));
  const level = lines[0]?.verb === 'level' ? lines[0].words[0] : undefined;
  if (level !== 'store' && level !== 'engine') throw new Error(`${file}: the first line after the name is to be: level store | engine`);
  return { file, name, level, lines: lines.slice(1) };
}

function parseLine(file: string, number: number, line: string): Line[] {
  if (line === '') return [];
  const words = line.match(/(?:[^\s"]+|"[^"]*")+/g) ?? [];
  let at: number | null = null;
  if (words[0] === 'at') {
    at = milliseconds(words[1] ?? '', `${file}:${number}`);
    words.splice(0, 2);
  }
  const verb = words.shift() ?? '';
  const options: Record<string, string> = {};
  const plain: string[] = [];
  for (const word of words) {
    const pair = /^([A-Za-z]+)=(.*)$/.exec(word);
    if (pair) options[pair[1] ?? ''] = (pair[2] ?? '').replaceAll('"', '');
    else plain.push(word);
  }
  return [{ file, number, at, verb, words: plain, options }];
}

/** `1m30s`, `2h`, `500ms`, `-5s`. */
export function milliseconds(text: string, where: string): number {
  const sign = text.startsWith('-') ? -1 : 1;
  const parts = text.replace(/^-/, '').match(/\d+(?:\.\d+)?(?:ms|[smhd])/g);
  if (!parts || parts.join('') !== text.replace(/^-/, '')) throw new Error(`${where}: ${text} is not a duration`);
  return sign * parts.reduce((sum, part) => sum + (parseDuration(part) ?? Number.NaN), 0);
}

/**
 * The bytes of a terminal as names of keys: `a`, `A`, `up`, `ctrl-c`, `pagedown`. What is pasted is one key: its own text. An escape that
 * begins nothing is the key itself; one that begins something unknown is dropped, so that no half of it is taken for keys.
 */

const sequences: Readonly<Record<string, string>> = {
  '[A': 'up',
  '[B': 'down',
  '[C': 'right',
  '[D': 'left',
  '[H': 'home',
  '[F': 'end',
  '[Z': 'shift-tab',
  OA: 'up',
  OB: 'down',
  OC: 'right',
  OD: 'left',
  OH: 'home',
  OF: 'end',
  '[1~': 'home',
  '[3~': 'delete',
  '[4~': 'end',
  '[5~': 'pageup',
  '[6~': 'pagedown',
  '[7~': 'home',
  '[8~': 'end',
};

const controls: Readonly<Record<number, string>> = { 8: 'backspace', 9: 'tab', 10: 'return', 13: 'return', 32: 'space', 127: 'backspace' };

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what keys send
const known = /^\u001b(\[[0-9;?<]*[ -/]*[@-~]|O[A-Za-z])/;
const pasteBegins = '\u001b[200~';
const pasteEnds = '\u001b[201~';

/** The keys in a chunk of input. */
export function decodeKeys(chunk: string): string[] {
  const keys: string[] = [];
  for (let rest = chunk; rest !== ''; ) {
    if (rest.startsWith(pasteBegins)) {
      const end = rest.indexOf(pasteEnds);
      keys.push(rest.slice(pasteBegins.length, end === -1 ? undefined : end));
      rest = end === -1 ? '' : rest.slice(end + pasteEnds.length);
      continue;
    }
    const [key, length] = next(rest);
    if (key !== null) keys.push(key);
    rest = rest.slice(length);
  }
  return keys;
}

function next(rest: string): readonly [string | null, number] {
  const code = rest.codePointAt(0) ?? 0;
  if (code === 27) {
    const [whole, sequence] = known.exec(rest) ?? [];
    if (whole !== undefined && sequence !== undefined) return [sequences[sequence] ?? null, whole.length];
    return ['escape', 1];
  }
  const char = String.fromCodePoint(code);
  if (controls[code] !== undefined) return [controls[code], 1];
  if (code < 32) return [`ctrl-${String.fromCharCode(code + 96)}`, 1];
  return [char, char.length];
}

/**
 * Decodes terminal input into key names: `a`, `A`, `up`, `ctrl-c`, `pagedown`. Pasted text is one key, marked as such, and is never taken
 * for a command. A lone escape is the Escape key; an unknown escape sequence is dropped as a whole, so that no part of it is taken for keys.
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

/** The text of a paste; undefined for a key press. */
export function pastedText(key: string): string | undefined {
  return key.startsWith(pasteBegins) ? key.slice(pasteBegins.length) : undefined;
}

/** What the input still lacks: the rest of an escape sequence, which arrives within milliseconds, or the rest of a paste. */
export function unfinished(text: string): 'key' | 'paste' | null {
  const begins = text.lastIndexOf(pasteBegins);
  if (begins !== -1 && !text.includes(pasteEnds, begins)) return 'paste';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what keys send
  return /\u001b(?:\[[0-9;?<]{0,30}|O)?$/.test(text) ? 'key' : null;
}

/** Splits a chunk of input into keys. */
export function decodeKeys(chunk: string): string[] {
  const keys: string[] = [];
  for (let rest = chunk; rest !== ''; ) {
    if (rest.startsWith(pasteBegins)) {
      const end = rest.indexOf(pasteEnds);
      keys.push(rest.slice(0, end === -1 ? undefined : end));
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
    const held = String.fromCodePoint(rest.codePointAt(1) ?? 27);
    // Alt with a key is not Escape and that key. Views have no Alt keys, though: Escape and a digit arrived in one chunk.
    return held === '\u001b' || /^\d$/.test(held) ? ['escape', 1] : [`alt-${held}`, 1 + held.length];
  }
  const char = String.fromCodePoint(code);
  if (controls[code] !== undefined) return [controls[code], 1];
  if (code < 32) return [`ctrl-${String.fromCharCode(code + 96)}`, 1];
  return [char, char.length];
}

/**
 * The bytes of a terminal as names of keys: `a`, `A`, `up`, `ctrl-c`, `pagedown`. What is pasted is one key, marked as such: it is text, and never
 * a command. An escape that begins nothing is the key itself; one that begins something unknown is dropped, so that no half of it is taken
 * for keys.
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

/** The text of a key that was pasted; undefined for one that was pressed. */
export function pastedText(key: string): string | undefined {
  return key.startsWith(pasteBegins) ? key.slice(pasteBegins.length) : undefined;
}

/** What of a key is still to come: the rest of a sequence, which is there within milliseconds, or of what is pasted. */
export function unfinished(text: string): 'key' | 'paste' | null {
  const begins = text.lastIndexOf(pasteBegins);
  if (begins !== -1 && !text.includes(pasteEnds, begins)) return 'paste';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what keys send
  return /\u001b(?:\[[0-9;?<]{0,30}|O)?$/.test(text) ? 'key' : null;
}

/** The keys in a chunk of input. */
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
    // Alt and a key: not the two of them. But nobody holds Alt for a view: Escape and a digit came in one piece.
    return held === '\u001b' || /^\d$/.test(held) ? ['escape', 1] : [`alt-${held}`, 1 + held.length];
  }
  const char = String.fromCodePoint(code);
  if (controls[code] !== undefined) return [controls[code], 1];
  if (code < 32) return [`ctrl-${String.fromCharCode(code + 96)}`, 1];
  return [char, char.length];
}

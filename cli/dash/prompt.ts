/** The input line. Positions count characters as users see them (grapheme clusters). */
import { clean } from '../format.ts';
import { pastedText } from './decode.ts';
import type { Prompt, PromptKind, Write } from './state.ts';

export function newPrompt(kind: PromptKind, text: string, write: Write | null = null): Prompt {
  return { kind, text, at: parts(text).length, task: null, verdict: null, write };
}

export function edited(prompt: Prompt, text: string, at: number): Prompt {
  return { ...prompt, text, at, verdict: null };
}

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** Splits a text into grapheme clusters. */
export function parts(text: string): string[] {
  return [...segmenter.segment(text)].map(({ segment }) => segment);
}

const longest = 4_000;

/** Applies a key to the line. Returns the same object if nothing changes. A key without a name is inserted as text. */
export function editKey(prompt: Prompt, key: string): Prompt {
  const chars = parts(prompt.text);
  const { at } = prompt;
  const pasted = pastedText(key);
  if (pasted !== undefined) return insert(prompt, chars, pasted);
  const put = (next: readonly string[], position: number) => edited(prompt, next.join(''), position);
  switch (key) {
    case 'left':
    case 'ctrl-b':
      return at === 0 ? prompt : { ...prompt, at: at - 1 };
    case 'right':
    case 'ctrl-f':
      return at === chars.length ? prompt : { ...prompt, at: at + 1 };
    case 'home':
    case 'ctrl-a':
      return { ...prompt, at: 0 };
    case 'end':
    case 'ctrl-e':
      return { ...prompt, at: chars.length };
    case 'backspace':
      return at === 0 ? prompt : put([...chars.slice(0, at - 1), ...chars.slice(at)], at - 1);
    case 'delete':
      return at === chars.length ? prompt : put([...chars.slice(0, at), ...chars.slice(at + 1)], at);
    case 'ctrl-u':
      return put(chars.slice(at), 0);
    case 'ctrl-k':
      return put(chars.slice(0, at), at);
    case 'ctrl-w': {
      const before = chars
        .slice(0, at)
        .join('')
        .replace(/\S+\s*$/, '');
      return put([before, ...chars.slice(at)], parts(before).length);
    }
    case 'space':
      return insert(prompt, chars, ' ');
    default:
      return named.test(key) ? prompt : insert(prompt, chars, key);
  }
}

const named = /^(?:up|down|tab|shift-tab|return|escape|pageup|pagedown|insert|f\d+|(?:ctrl|alt|shift)-.+)$/s;

function insert(prompt: Prompt, chars: readonly string[], key: string): Prompt {
  // Pasted text may contain anything, including a space at its end.
  const text = key === ' ' ? ' ' : clean(key);
  if (text === '' || prompt.text.length + text.length > longest) return prompt;
  const added = parts(text);
  return edited(prompt, [...chars.slice(0, prompt.at), ...added, ...chars.slice(prompt.at)].join(''), prompt.at + added.length);
}

/** Decoding of key bytes. */
import { expect, test } from 'vitest';
import { decodeKeys, unfinished } from '../../cli/dash/decode.ts';

test.each([
  ['a', ['a']],
  ['aB', ['a', 'B']],
  [' ', ['space']],
  ['\r', ['return']],
  ['\t', ['tab']],
  ['\u001b', ['escape']],
  ['\u001b[A\u001b[B', ['up', 'down']],
  ['\u001bOA', ['up']],
  ['\u001b[Z', ['shift-tab']],
  ['\u001b[5~\u001b[6~', ['pageup', 'pagedown']],
  ['\u001b[1~\u001b[F', ['home', 'end']],
  ['\u001b[3~', ['delete']],
  ['\u007f', ['backspace']],
  ['\u0003', ['ctrl-c']],
  ['\u001a', ['ctrl-z']],
  ['é👍', ['é', '👍']],
  // No part of an unknown sequence is taken for keys.
  ['\u001b[1;5C', []],
  ['\u001b[<0;10;10M', []],
  // Nor is a key pressed with Alt taken for Escape and the key.
  ['\u001bD', ['alt-D']],
  ['\u001b\u007f', ['alt-\u007f']],
  ['\u001b\u001b[A', ['escape', 'up']],
  // A view key right after Escape counts as both.
  ['\u001b2', ['escape', '2']],
  ['\u001b\u001b6', ['escape', 'escape', '6']],
  ['\u001b[200~cd\n{"a":1}\u001b[201~x', ['\u001b[200~cd\n{"a":1}', 'x']],
] as const)('%j is %j', (bytes, keys) => {
  expect(decodeKeys(bytes)).toEqual(keys);
});

test.each([
  ['a', null],
  ['\u001b', 'key'],
  ['\u001b[', 'key'],
  ['\u001b[1;', 'key'],
  ['\u001b[A', null],
  ['\u001b[200~the first piece, with a D and a ', 'paste'],
  ['\u001b[200~all of it\u001b[20', 'paste'],
  ['\u001b[200~all of it\u001b[201~', null],
] as const)('%j is awaited: %j', (bytes, awaited) => {
  expect(unfinished(bytes)).toBe(awaited);
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cut, maxErrorBytes, recordError } from '../../src/core/failure.ts';
import { utf8Length } from '../../src/core/json.ts';

const trap = new Proxy(
  {},
  {
    get() {
      throw new Error('get');
    },
    has() {
      throw new Error('has');
    },
    getPrototypeOf() {
      throw new Error('getPrototypeOf');
    },
    ownKeys() {
      throw new Error('ownKeys');
    },
  },
);
const circular: Error & { cause?: unknown } = new Error('round');
circular.cause = circular;

test.each<[string, unknown, string, string]>([
  ['an Error', new TypeError('bad'), 'TypeError', 'bad'],
  ['a string', 'only text', 'string', 'only text'],
  ['null', null, 'null', 'null'],
  ['undefined', undefined, 'undefined', 'undefined'],
  ['a number', 42, 'number', '42'],
  ['a BigInt', 7n, 'bigint', '7'],
  ['a symbol', Symbol('s'), 'symbol', 'Symbol(s)'],
  ['a plain object', { code: 5 }, 'Object', '{"code":5}'],
  ['an object like an error', { name: 'Odd', message: 'thing' }, 'Odd', 'thing'],
  ['a circular error', circular, 'Error', 'round'],
  ['a proxy that throws at every touch', trap, 'unknown', 'a value that cannot be printed'],
])('%s is recorded', (_, thrown, name, message) => {
  expect(recordError(thrown)).toMatchObject({ name, message });
});

test('an error whose getters throw is recorded', () => {
  const error = new Error('x');
  for (const key of ['name', 'message', 'stack', 'cause']) {
    Object.defineProperty(error, key, {
      get() {
        throw new Error(key);
      },
    });
  }
  expect(recordError(error).name).toBe('Error');
});

test('causes are told, five deep', () => {
  const root = new Error('root');
  expect(recordError(new Error('outer', { cause: root })).stack).toContain('caused by: Error: root');
});

test('ten megabytes of stack are cut to the bound', () => {
  const error = Object.assign(new Error('m'.repeat(1_000_000)), { stack: 'é'.repeat(10_000_000) });
  const { name, message, stack } = recordError(error);
  expect(utf8Length(name + message + stack)).toBeLessThanOrEqual(maxErrorBytes);
  expect(stack).toContain('(cut)');
});

test('NUL and lone surrogates are replaced: databases refuse them', () => {
  const { message } = recordError(new Error('a\0b\ud800c'));
  expect(message).toBe('a\u2400b\ufffdc');
});

test('recording never fails, and never exceeds its bound', () => {
  fc.assert(
    fc.property(
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withObjectString: true }),
      (thrown) => {
        const { name, message, stack } = recordError(thrown);
        for (const text of [name, message, stack]) {
          expect(typeof text).toBe('string');
          expect(text).not.toContain('\0');
          expect(text.isWellFormed()).toBe(true);
        }
        expect(utf8Length(name + message + stack)).toBeLessThanOrEqual(maxErrorBytes);
      },
    ),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 20, max: 200 }), (text, bytes) => {
      expect(utf8Length(cut(text, bytes))).toBeLessThanOrEqual(bytes);
    }),
  );
});

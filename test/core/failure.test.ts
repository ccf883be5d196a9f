import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cut, maxDetailBytes, maxErrorBytes, recordError } from '../../src/core/failure.ts';
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
  ['a proxy whose traps all throw', trap, 'unknown', 'a value that cannot be printed'],
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

test('causes are recorded up to five levels deep', () => {
  const root = new Error('root');
  expect(recordError(new Error('outer', { cause: root })).stack).toContain('caused by: Error: root');
});

test('properties of causes are recorded, and cycles end', () => {
  const root = Object.assign(new Error('connect ECONNREFUSED ::1:5432'), { code: 'ECONNREFUSED', errno: -111 });
  const { cause, stack } = recordError(new TypeError('fetch failed', { cause: root }));
  expect(cause).toEqual({ name: 'Error', message: root.message, code: 'ECONNREFUSED', properties: { errno: -111 } });
  expect(stack).toContain(`caused by: Error: ${root.message}`);
  expect(recordError(circular).cause).toBeUndefined();
});

test('ten members of an AggregateError are recorded', () => {
  const members = Array.from({ length: 12 }, (_, i) => new Error(`${i} down`));
  const { errors, stack, message } = recordError(new AggregateError(members, 'all down'));
  expect(message).toBe('all down');
  expect(errors?.map((one) => one.message)).toEqual(members.slice(0, 10).map((one) => one.message));
  expect(stack).toContain('error 2 of 12: Error: 1 down');
});

test('both errors of a SuppressedError are recorded', () => {
  const suppressed = Object.assign(new Error('outer'), {
    name: 'SuppressedError',
    error: new Error('closing'),
    suppressed: new Error('work'),
  });
  const { errors, stack, properties } = recordError(suppressed);
  expect(errors?.map(({ message }) => message)).toEqual(['closing', 'work']);
  expect(stack).toMatch(/error: Error: closing(?:.|\n)*suppressed: Error: work/);
  expect(properties).toBeUndefined();
});

test.each<[string, unknown, string]>([
  [
    'an AggregateError uses the messages of its members',
    new AggregateError([new Error('a'), new Error(''), new Error('a')]),
    'a; (no message)',
  ],
  ['an error uses the message of its cause', new Error('', { cause: new Error('why') }), 'why'],
  ['an error uses its code', Object.assign(new Error(''), { code: 'E_CARD' }), 'E_CARD'],
  ['a blank message', new Error('  '), '(no message)'],
  ['an empty text', '', '(no message)'],
  ['an empty AggregateError', new AggregateError([]), '(no message)'],
])('an empty message is never recorded: %s', (_, thrown, message) => {
  expect(recordError(thrown).message).toBe(message);
});

test('code, status and other plain properties are recorded, but not large, live or secret values', () => {
  const error = Object.assign(new Error('declined'), {
    code: 'E_CARD',
    status: 402,
    detail: { field: 'pan', codes: [1, 2] },
    text: 'é'.repeat(5_000),
    large: 'x '.repeat(1_000).split(' '),
    password: 'p',
    config: { headers: { Authorization: 'Bearer x' } },
    socket: new Map(),
    call() {},
    missing: undefined,
  });
  const { code, status, properties } = recordError(error);
  expect([code, status]).toEqual(['E_CARD', 402]);
  expect(Object.keys(properties ?? {})).toEqual(['detail', 'text']);
  expect(properties?.detail).toEqual({ field: 'pan', codes: [1, 2] });
  expect(Object.isFrozen(properties?.detail)).toBe(true);
});

test('code, status and errors of unexpected types are recorded as properties', () => {
  const error = Object.assign(new Error('invalid'), { code: { pg: 1 }, status: false, errors: { email: ['taken'] } });
  const { code, status, errors, properties } = recordError(error);
  expect([code, status, errors]).toEqual([undefined, undefined, undefined]);
  expect(properties).toEqual({ code: { pg: 1 }, status: false, errors: { email: ['taken'] } });
});

test('oversized values are not read to the end', () => {
  let reads = 0;
  const counted = (target: object) =>
    new Proxy(target, {
      get(of, key) {
        reads += 1;
        return Reflect.get(of, key);
      },
    });
  const large = counted(Array.from({ length: 1_000_000 }, (_, i) => i));
  const rows = counted(
    Array.from({ length: 1_000 }, () => counted(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, i])))),
  );
  expect(recordError(Object.assign(new Error('x'), { large, rows, kept: 1 })).properties).toEqual({ kept: 1 });
  const nested = (depth: number): Error => {
    const members = depth === 0 ? [] : Array.from({ length: 10 }, () => nested(depth - 1));
    return counted(new AggregateError(members, '')) as Error;
  };
  expect(recordError(nested(4)).message).toBe('(no message)');
  expect(reads).toBeLessThan(100_000);
});

test('everything recorded beside the stack is limited', () => {
  const wide = (depth: number): Error => {
    const members = depth === 0 ? [] : Array.from({ length: 20 }, () => wide(depth - 1));
    return Object.assign(new AggregateError(members, 'm'.repeat(2_000)), { note: 'n'.repeat(900), cause: new Error('c'.repeat(2_000)) });
  };
  const { name, message, stack, ...details } = recordError(wide(3));
  expect(utf8Length(name + message + stack)).toBeLessThanOrEqual(maxErrorBytes);
  expect(utf8Length(JSON.stringify(details))).toBeLessThan(2 * maxDetailBytes);
});

test('a stack of ten megabytes is truncated', () => {
  const error = Object.assign(new Error('m'.repeat(1_000_000)), { stack: 'é'.repeat(10_000_000) });
  const { name, message, stack } = recordError(error);
  expect(utf8Length(name + message + stack)).toBeLessThanOrEqual(maxErrorBytes);
  expect(stack).toContain('(cut)');
});

test('NUL and lone surrogates, which databases reject, are replaced', () => {
  const { message } = recordError(new Error('a\0b\ud800c'));
  expect(message).toBe('a\u2400b\ufffdc');
});

test('recording never throws and never exceeds its limit', () => {
  fc.assert(
    fc.property(
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withObjectString: true }),
      (thrown) => {
        const { name, message, stack } = recordError(thrown);
        expect(message).not.toBe('');
        for (const text of [name, message, stack]) {
          expect(typeof text).toBe('string');
          expect(text).not.toContain('\0');
          expect(text.isWellFormed()).toBe(true);
        }
        expect(utf8Length(name + message + stack)).toBeLessThanOrEqual(maxErrorBytes);
      },
    ),
  );
  // Arbitrary text with lone surrogates. Building fast-check's unit 'binary' takes two seconds.
  const anyText = fc.string({ unit: fc.oneof(fc.nat(0xffff), fc.nat(0x10ffff)).map((code) => String.fromCodePoint(code)) });
  fc.assert(
    fc.property(anyText, fc.integer({ min: 20, max: 200 }), (text, bytes) => {
      expect(utf8Length(cut(text, bytes))).toBeLessThanOrEqual(bytes);
    }),
  );
});

/** Values that cannot be stored as JSON are compile-time errors in the task's definition; all others are accepted. */
import { type Cancel, cancel, createTasks, type PortableTask, type Snooze, snooze, type Task, task } from 'escapement';
import { expectTypeOf, test } from 'vitest';
import { z } from 'zod';

const tasks = createTasks();
const unrun = (_: () => unknown): void => {};

class User {
  readonly id = 1;
  greet(): string {
    return 'hello';
  }
}
class Point {
  readonly x = 1;
}
interface Tree {
  name: string;
  children: readonly Tree[];
  parent?: Tree;
}
type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
interface Nest<T> {
  value: T;
  deeper?: Nest<T[]>;
}
declare const brand: unique symbol;
type Id = string & { readonly [brand]: 'Id' };
type Order = { id: Id; lines: { sku: string }[] } & { readonly [brand]: 'Order' };
const noInput = tasks.define('no-input', () => {});

test('a return value that cannot be stored is rejected, at any depth', () => {
  // @ts-expect-error a Date
  unrun(() => tasks.define('a', () => new Date()));
  // @ts-expect-error a Date inside
  unrun(() => tasks.define('a', async () => ({ user: { bornAt: new Date() } })));
  // @ts-expect-error in one of two
  unrun(() => tasks.define('a', async (): Promise<{ id: string } | { at: Date }> => ({ id: 'a' })));
  // @ts-expect-error in an array
  unrun(() => tasks.define('a', async () => [new Set([1])]));
  // @ts-expect-error in a record
  unrun(() => tasks.define('a', (): Record<string, Map<string, number>> => ({})));
  // @ts-expect-error in a tuple
  unrun(() => tasks.define('a', () => [1, 2n] as const));
  // @ts-expect-error where it is optional
  unrun(() => tasks.define('a', (): { at?: Date | null } => ({})));
  // @ts-expect-error a symbol
  unrun(() => tasks.define('a', () => Symbol('a')));
  // @ts-expect-error a function
  unrun(() => tasks.define('a', () => () => 1));
  // @ts-expect-error bytes
  unrun(() => tasks.define('a', async () => Buffer.from('a')));
  // @ts-expect-error a URL
  unrun(() => tasks.define('a', () => new URL('https://example.com')));
  // @ts-expect-error a regular expression
  unrun(() => tasks.define('a', () => /a/));
  // @ts-expect-error a class with methods
  unrun(() => tasks.define('a', async () => new User()));
  // @ts-expect-error a result: return its id
  unrun(() => tasks.define('a', () => noInput.enqueue()));
  // @ts-expect-error beside control values
  unrun(() => tasks.define('a', async (n: number) => (n > 1 ? snooze('1m') : n > 2 ? cancel() : new Date())));
  // @ts-expect-error of a task with options
  unrun(() => tasks.define('a', { queue: 'mail', run: async () => new Date() }));
  // @ts-expect-error of a task with a schema
  unrun(() => tasks.define('a', { input: z.object({ at: z.string() }), run: ({ at }) => ({ at: new Date(at) }) }));
  // @ts-expect-error of a portable task
  unrun(() => task('a', () => new Date()));
  // @ts-expect-error given to ctx.complete
  unrun(() => tasks.define('a', (_: number, ctx) => ctx.complete({ at: new Date() }, { transaction: {} })));
});

test('an input that cannot be stored is rejected, at any depth', () => {
  // @ts-expect-error a Date
  unrun(() => tasks.define('a', (_: { at: Date }) => {}));
  // @ts-expect-error a Map
  unrun(() => tasks.define('a', async (_: Map<string, number>, ctx) => ctx.progress(1)));
  // @ts-expect-error a class with methods
  unrun(() => tasks.define('a', async (_: { user: User }) => {}));
  // @ts-expect-error a callback
  unrun(() => tasks.define('a', async (_: { done?: () => void }) => {}));
  // @ts-expect-error a BigInt
  unrun(() => tasks.define('a', { queue: 'mail', run: async (_: { id: bigint }[]) => {} }));
  // @ts-expect-error what goes into the schema
  unrun(() => tasks.define('a', { input: z.object({ at: z.date() }), run: ({ at }) => at.getTime() }));
  // @ts-expect-error of a portable task
  unrun(() => task('a', (_: Date) => {}));
});

test('values that can be stored are accepted, and keep their types', () => {
  unrun(() => tasks.define('a', (_: Tree): Tree => ({ name: 'a', children: [] })));
  unrun(() => tasks.define('a', (_: Json): Json => null));
  unrun(() => tasks.define('a', (_: Nest<string>): Nest<string> => ({ value: 'a' })));
  unrun(() => tasks.define('a', async (order: Order, ctx): Promise<Id> => ctx.sleep('1s').then(() => order.id)));
  unrun(() =>
    tasks.define(
      'a',
      (_: { a?: string | undefined; b: readonly [string, number?]; c: Record<string, number[]> }) => [1, 'b', null] as const,
    ),
  );
  unrun(() => tasks.define('a', (_: unknown, ctx): unknown => ctx.id));
  // biome-ignore lint/suspicious/noExplicitAny: any is what is tested
  unrun(() => tasks.define('a', (_: any): any => 1));
  unrun(() => tasks.define('a', (_: { a: unknown; b: object; c: unknown[] }): object => ({})));
  unrun(() => tasks.define('a', (_: { name: string; message: string }) => new Point()));
  unrun(() => tasks.define('a', () => ['a', undefined]));
  unrun(() =>
    tasks.define('a', (_: number): never => {
      throw new Error('a');
    }),
  );
  unrun(() => tasks.define<{ a: string }, Promise<void>>('a', async ({ a }) => void a.length));
  unrun(() => tasks.define('a', { input: z.json(), run: (value) => value }));
  unrun(() => tasks.define('a', { input: z.unknown(), run: () => {} }));
  expectTypeOf(tasks.define('kept', (_: Tree) => ({ id: 'a' as Id }))).toEqualTypeOf<Task<Tree, { id: Id }>>();
});

test('types that are not yet known are not checked', () => {
  function save<Row extends { id: string }>(name: string, write: (row: Row) => Promise<Row>) {
    return tasks.define(name, async (row: Row) => write(row));
  }
  function wrap<Row>(name: string, write: (row: Row) => Promise<void>): Task<Row, { row: Row }> {
    return tasks.define(name, async (row: Row, ctx) => {
      ctx.progress(1);
      await write(row);
      return { row };
    });
  }
  function first<Row, Out>(name: string, run: (row: Row) => Promise<Out>): Task<Row[], Exclude<Awaited<Out>, Snooze | Cancel>> {
    return tasks.define(name, { queue: 'mail', run: (rows: Row[]) => run(rows[0] as Row) });
  }
  function library<Row, Out>(name: string, run: (row: Row) => Out): PortableTask<Row, Exclude<Awaited<Out>, Snooze | Cancel>> {
    return task(name, run);
  }
  function validated<Schema extends z.ZodType>(name: string, input: Schema) {
    return tasks.define(name, { input, run: async () => 5 });
  }
  unrun(() => save('a', async (row: { id: string; n: number }) => row).enqueue({ id: 'a', n: 1 }));
  unrun(() => [wrap, first, library]);
  unrun(() => validated('a', z.object({ n: z.number() })).enqueue({ n: 1 }));
});

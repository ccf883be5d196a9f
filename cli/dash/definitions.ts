/**
 * What the module's own code defines, as the dashboard needs it: the schema of each task's input, and how long its jobs wait between attempts.
 * It is noted while the module is loaded, by the `createTasks` that `modules` puts in the place of the package's own.
 */
import type { Tasks } from 'escapement';
import { clean, shorten } from '../format.ts';
import { readWaits, type Waits } from './waits.ts';

interface Schema {
  readonly '~standard': { validate(value: unknown): unknown };
}

interface Definition {
  readonly schema: Schema | undefined;
  readonly waits: Waits | undefined;
}

const noted = new WeakMap<Tasks, Map<string, Definition>>();

/** Notes what is defined on these tasks from now on. @param defaults the `defaults` of `createTasks` */
export function noteDefinitions(tasks: Tasks, defaults: unknown): void {
  const definitions = new Map<string, Definition>();
  noted.set(tasks, definitions);
  const define = tasks.define as (name: string, options: unknown) => unknown;
  const noting = (name: string, options: unknown): unknown => {
    const task = define(name, options);
    const { input, retry } = (typeof options === 'object' && options !== null ? options : {}) as { input?: unknown; retry?: unknown };
    const standard = (input as Partial<Schema> | undefined)?.['~standard'];
    const schema = typeof standard?.validate === 'function' ? (input as Schema) : undefined;
    definitions.set(name, { schema, waits: readWaits(retry ?? (defaults as { retry?: unknown } | undefined)?.retry) });
    return task;
  };
  Object.defineProperty(tasks, 'define', { configurable: true, value: noting });
}

export function waitsOf(tasks: Tasks, task: string): Waits | undefined {
  return noted.get(tasks)?.get(task)?.waits;
}

/** What is to be said of an input as it is typed. */
export interface Verdict {
  readonly ok: boolean;
  readonly text: string;
}

/** The value that was typed; nothing is none. @throws SyntaxError */
export function typedInput(text: string): unknown {
  return text.trim() === '' ? undefined : JSON.parse(text);
}

/** Is this JSON, and does the task's schema accept it? */
export async function checkInput(tasks: Tasks, task: string, text: string): Promise<Verdict> {
  let value: unknown;
  try {
    value = typedInput(text);
  } catch (error) {
    return { ok: false, text: `no JSON yet: ${clean((error as Error).message)}` };
  }
  const schema = noted.get(tasks)?.get(task)?.schema;
  if (!schema) return { ok: true, text: value === undefined ? 'no input' : 'JSON; the task has no schema that is known here' };
  try {
    const { issues } = (await schema['~standard'].validate(value ?? null)) as {
      issues?: readonly { message: string; path?: readonly unknown[] }[];
    };
    if (!issues || issues.length === 0) return { ok: true, text: 'the schema accepts it' };
    return { ok: false, text: shorten(issues.map(issueText).join('; '), 200) };
  } catch (error) {
    return { ok: false, text: `the schema threw ${clean(String(error))}` };
  }
}

function issueText({ message, path = [] }: { readonly message: string; readonly path?: readonly unknown[] }): string {
  const where = path.map((part) => String((part as { key?: unknown } | null)?.key ?? part)).join('.');
  return clean(where === '' ? message : `${where}: ${message}`);
}

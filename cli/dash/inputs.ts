/** Checks an input while it is typed: whether it is valid JSON and whether the task's schema accepts it. */
import type { Tasks } from 'escapement';
import { clean, shorten } from '../format.ts';
import { missingInput } from '../inputs.ts';

/** The result of a check, to be shown below the input. */
export interface Verdict {
  readonly ok: boolean;
  readonly text: string;
}

/** Parses the typed input; undefined if it is empty. @throws SyntaxError */
export function typedInput(text: string): unknown {
  return text.trim() === '' ? undefined : JSON.parse(text);
}

export async function checkInput(tasks: Tasks, task: string, text: string): Promise<Verdict> {
  let value: unknown;
  try {
    value = typedInput(text);
  } catch (error) {
    return { ok: false, text: `not valid JSON: ${clean((error as Error).message)}` };
  }
  const { schema } = tasks.describe(task);
  if (!schema)
    return { ok: true, text: value === undefined ? (missingInput(tasks, task) ?? 'no input') : 'valid JSON; the task has no schema' };
  try {
    const { issues } = await schema['~standard'].validate(value ?? null);
    if (!issues || issues.length === 0) return { ok: true, text: 'the schema accepts it' };
    return { ok: false, text: shorten(issues.map(issueText).join('; '), 200) };
  } catch (error) {
    return { ok: false, text: `the schema threw ${clean(String(error))}` };
  }
}

function issueText({ message, path = [] }: { readonly message: string; readonly path?: readonly unknown[] | undefined }): string {
  const where = path.map((part) => String((part as { key?: unknown } | null)?.key ?? part)).join('.');
  return clean(where === '' ? message : `${where}: ${message}`);
}

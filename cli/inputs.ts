/** What is to be said of an input that is not there. */
import type { Tasks } from 'escapement';
import { clean } from './format.ts';

/** A task whose function takes an input, and has no schema that would refuse to be without: what is wrong with a job of it that has none. */
export function missingInput(tasks: Tasks, name: string): string | undefined {
  const { schema, takesInput } = tasks.describe(name);
  return schema || !takesInput ? undefined : `the function of ${clean(name)} takes an input, and this job has none`;
}

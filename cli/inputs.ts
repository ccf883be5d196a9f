/** The message for a missing input. */
import type { Tasks } from 'escapement';
import { clean } from './format.ts';

/** The warning for a job without input whose task's function takes one and has no schema to reject it. */
export function missingInput(tasks: Tasks, name: string): string | undefined {
  const { schema, takesInput } = tasks.describe(name);
  return schema || !takesInput ? undefined : `the function of ${clean(name)} takes an input, and this job has none`;
}

/** A worker, bundled with the package. Exits with 1 if its jobs do not run. */
import { createTasks, isEscapementError, memory, PermanentError } from 'escapement';
import { sqlite } from 'escapement/sqlite';

async function main() {
  const tasks = createTasks({ backends: { default: sqlite({ file: process.argv[2] ?? 'tasks.db' }), fast: memory() } });
  const greet = tasks.define('greet', (name: string) => `Hello, ${name}`);
  const refuse = tasks.define('refuse', () => {
    throw new PermanentError('no');
  });
  const worker = tasks.worker();
  await worker.start();
  const greeted = await greet.enqueue('Ada');
  const refused = await refuse.enqueue();
  await greeted.wait({ timeout: '30s' });
  await refused.wait({ timeout: '30s' });
  await tasks.close();
  const got = [greeted.returnValue, refused.errors[0]?.name, isEscapementError(new PermanentError('no'))];
  if (String(got) !== 'Hello, Ada,PermanentError,true') throw new Error(String(got));
}
void main();

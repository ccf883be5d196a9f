/** A worker and a simulation, bundled with the package. Ends with 1 if one of them does not do its work. */
import { createTasks, isEscapementError, memory, PermanentError } from 'escapement';
import { sqlite } from 'escapement/sqlite';
import { simulate } from 'escapement/testing';

async function main() {
  const tasks = createTasks({ backends: { default: sqlite({ file: process.argv[2] ?? 'tasks.db' }), fast: memory() } });
  const greet = tasks.define('greet', (name: string) => `Hello, ${name}`);
  const refuse = tasks.define('refuse', () => {
    throw new PermanentError('no');
  });
  const sim = await simulate(tasks);
  await greet.using({ runAfter: '1h' }).enqueue('Ada');
  await sim.runUntilIdle();
  const simulated = sim.attempts(greet).length;
  await sim.end();

  const worker = tasks.worker();
  await worker.start();
  const greeted = await greet.enqueue('Ada');
  const refused = await refuse.enqueue();
  await greeted.wait({ timeout: '30s' });
  await refused.wait({ timeout: '30s' });
  await tasks.close();
  const got = [simulated, greeted.returnValue, refused.errors[0]?.name, isEscapementError(new PermanentError('no'))];
  if (String(got) !== '1,Hello, Ada,PermanentError,true') throw new Error(String(got));
}
void main();
